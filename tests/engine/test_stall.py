"""The scheduler: what hangs is said by name after a while, then an error names it; what can go on does."""

import itertools
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError, NodeDiedError, WorkerCrashedError

from annotate.engine import going, made_twice, scheduler
from annotate.engine.calls import Calls, Job, Narrowing
from annotate.engine.facts import Held
from annotate.engine.scheduler import Scheduler
from annotate.engine.sharing import Share
from annotate.errors import HeadLostError, WorkError


@ray.remote(num_cpus=0)
def work(item):
    time.sleep(20 if item == "slow" else 0)
    return item


def calls(items, take=lambda *result: None, submit=None, **options):
    return Calls(iter(items), submit or (lambda item, cpus: work.remote(item)), str, take, **options)


def share(workers, limit):
    return lambda: Share(workers, limit)


def job(label, *steps, ready=lambda: True, claim=None):
    return Job(label, ready, iter(steps), claim)


def test_what_hangs_is_named_and_stops_the_run(ray_cluster, monkeypatch):
    monkeypatch.setattr(scheduler, "QUIET_SECONDS", 1.5)
    told, got = [], []
    waiting = lambda label, names, coming: told.append((label, *names))  # noqa: E731
    running = Scheduler(share(2, 2), 4, waiting)
    with pytest.raises(WorkError, match=r"a stage: nothing came back for 4.0 s; in flight: slow"):
        running.run([job("a stage", calls(["slow", "a", "b"], lambda index, item, result: got.append(result)))])
    assert told[-1] == ("a stage", "slow") and got == ["a", "b"]


class Reference:
    """Stands for the reference of a result."""

    def __init__(self, item):
        self.item, self.made = item, Future()

    def future(self):
        return self.made


def sends(sent):
    """Sends an item: puts its reference into a list."""

    def submit(item, cpus):
        sent.append(Reference(item))
        return sent[-1]

    return submit


class Clock:
    """Stands for `time`, and for the queue of results: a result is asked for every second; `come` says what comes."""

    def __init__(self, monkeypatch, come):
        self.now, self.come = 0, come
        monkeypatch.setattr(scheduler, "time", self)
        monkeypatch.setattr(going, "time", self)

    def monotonic(self):
        return self.now

    def of(self, running):
        back = running._back

        def get(timeout):
            self.now += 1
            self.come(self.now)
            return back.get_nowait()

        running._back = SimpleNamespace(get=get, get_nowait=back.get_nowait, put=back.put)
        return running


def test_a_job_whose_calls_wait_for_those_of_another_does_not_stall(monkeypatch):
    """Every other second there is a result; that of the model comes when no other call is there."""
    flying, got = {}, []

    def come(now):
        if now % 2 == 0:
            flying.pop(min(flying)).made.set_result(None)

    def submit(item, cpus):
        flying[item] = Reference(item)
        return flying[item]

    some = {"submit": submit, "take": lambda index, item, result: got.append(item)}
    jobs = [job("models", calls(["z"], **some)), job("tasks", calls("abcdefgh", **some))]
    Clock(monkeypatch, come).of(Scheduler(share(2, 4), stall_seconds=4)).run(jobs)
    assert got == [*"abcdefgh", "z"]


def test_waiting_for_room_is_told_and_is_no_stall_but_what_hangs_afterwards_is(monkeypatch):
    room, told = [], []
    model = Future()

    def come(now):
        if now == 1000:
            room.append("a model")
            model.set_result(None)

    step = calls(["z"], submit=lambda item, cpus: Reference(item), room=lambda: len(room))
    step.coming = lambda: {} if room else {model: "room for a model, which needs 1 GPU"}
    clock = Clock(monkeypatch, come)
    running = clock.of(Scheduler(share(2, 4), stall_seconds=60, waiting=lambda *what: told.append(what)))
    with pytest.raises(WorkError, match="in flight: z"):
        running.run([job("models", step)])
    assert 1060 < clock.now < 1065
    room_for_a_model = ("models", [], ["room for a model, which needs 1 GPU"])
    assert told == [*[room_for_a_model] * 4, ("models", ["z"], [])], "after 30 s, then every 300 s; then it works"


def test_calls_that_wait_for_what_others_hold_are_told_and_are_no_stall_but_what_hangs_afterwards_is(monkeypatch):
    told, asked = [], []

    def waits():
        asked.append(clock.now)
        return ["room for a call, which needs 1 CPU"] if clock.now < 1000 else []

    step = calls("z", submit=lambda item, cpus: Reference(item))
    clock = Clock(monkeypatch, lambda now: None)
    running = Scheduler(share(2, 4), 60, lambda *what: told.append((clock.now, *what)), waits=waits)
    with pytest.raises(WorkError, match="nothing came back for 1 min 0 s; in flight: z"):
        clock.of(running).run([job("a stage", step)])
    assert 1060 < clock.now < 1070 and len(asked) < 1070 / scheduler.ASK_SECONDS
    assert [what for _, _, _, what in told] == [["room for a call, which needs 1 CPU"]] * 4 + [[]]
    assert told[0][0] < 35 and 1000 < told[-1][0] < 1010


@pytest.mark.parametrize("first_wins", [True, False])
def test_a_call_that_takes_very_long_is_made_twice_and_the_first_result_counts(monkeypatch, first_wins):
    sent, got = [], []
    submit = sends(sent)

    def come(now):
        """All but `d` take a second; `d` hangs, until it was sent a second time."""
        for reference in sent:
            if not reference.made.done() and reference.item != "d":
                reference.made.set_result(reference.item)
        of_d = [reference for reference in sent if reference.item == "d"]
        if len(of_d) == 2 and not any(reference.made.done() for reference in of_d):
            of_d[0 if first_wins else 1].made.set_result(f"made at {now}")

    step = calls("abcd", lambda index, item, result: got.append((item, result)), submit)
    clock = Clock(monkeypatch, come)
    clock.of(Scheduler(share(2, 4), stall_seconds=300)).run([job("a stage", step)])
    assert [item for item, _ in got] == [*"abcd"] and [r.item for r in sent] == [*"abcdd"]
    assert clock.now > made_twice.SLOW_SECONDS and got[-1][1].startswith("made at")


def test_a_call_that_may_not_be_made_twice_is_waited_for(monkeypatch):
    sent, got = [], []

    def come(now):
        for reference in sent:
            if not reference.made.done() and (reference.item != "d" or now > 200):
                reference.made.set_result(reference.item)

    step = calls("abcd", lambda index, item, result: got.append(result), sends(sent), twice=False)
    step.waiting = lambda: [reference for reference in sent if reference.item == "d"]
    clock = Clock(monkeypatch, come)
    clock.of(Scheduler(share(2, 4), stall_seconds=300)).run([job("a stage", step)])
    assert clock.now > 200 and got == [r.item for r in sent] == [*"abcd"]


def test_calls_that_wait_behind_a_slow_one_are_moved_to_workers_that_have_nothing_to_do(monkeypatch):
    """Two workers: one hangs with `a`, and `c` and `e` wait behind that; the other does `b` and `d`, then theirs."""
    lines, sent, got = [[], []], [], []

    def submit(item, cpus):
        reference = Reference(item)
        sent.append(item)
        min(lines, key=len).append(reference)
        return reference

    def come(now):
        if now < 20 and now % 2 and lines[1]:
            lines[1].pop(0).made.set_result("quick")
        elif now == 20:
            for reference in lines[0]:
                reference.made.set_result("slow")

    step = calls("abcde", lambda index, item, result: got.append((item, result)), submit, room=lambda: 5)
    step.idle, step.waiting = lambda: not lines[1], lambda: lines[0][:0:-1]
    clock = Clock(monkeypatch, come)
    clock.of(Scheduler(share(2, 4), stall_seconds=300)).run([job("a stage", step)])
    assert sent == [*"abcdeec"] and dict(got) == {"a": "slow", **dict.fromkeys("bcde", "quick")}


def test_what_is_lost_while_its_second_call_goes_on_is_not_sent_a_third_time(monkeypatch):
    sent, got = [], []
    submit = sends(sent)

    def come(now):
        if not got:
            sent[0].made.set_result("a")
        if len(sent) == 3 and now == 100:
            sent[1].made.set_exception(WorkerCrashedError())
        if now == 110:
            sent[2].made.set_result("b")

    step = calls("ab", lambda index, item, result: got.append(result), submit)
    clock = Clock(monkeypatch, come)
    clock.of(Scheduler(share(2, 4), stall_seconds=300)).run([job("a stage", step)])
    assert got == ["a", "b"] and len(sent) == 3


def test_once_all_is_sent_a_model_that_comes_late_wakes_nobody(monkeypatch):
    """It would end the wait for results at once, again and again, and no stall would be seen."""
    late = Future()
    late.set_result(None)
    step = calls(["z"], submit=lambda item, cpus: Reference(item), room=lambda: 1)
    step.coming = lambda: {late: "room for a model"}
    clock = Clock(monkeypatch, lambda now: None)
    with pytest.raises(WorkError, match="nothing came back for 1 min 0 s"):
        clock.of(Scheduler(share(2, 4), stall_seconds=60)).run([job("models", step)])
    assert clock.now < 65


def test_no_more_calls_are_in_flight_than_there_is_room_for(ray_cluster):
    flying, most = 0, []

    def submit(item, cpus):
        nonlocal flying
        flying += 1
        most.append(flying)
        return work.remote(item)

    taken = []

    def take(index, item, result):
        nonlocal flying
        flying -= 1
        taken.append(item)

    room = lambda: min(4, 1 + len(taken))  # noqa: E731
    Scheduler(share(4, 4), 60).run([job("a stage", calls(range(12), take, submit, room=room))])
    assert most[:3] == [1, 1, 2] and max(most) == 4


def test_a_later_job_takes_what_an_earlier_one_has_made_before_that_ends(ray_cluster):
    made, order = [], []

    def following():
        for n in range(6):
            while len(made) <= n:
                yield None
            yield f"late {n}"

    def take(index, item, result):
        order.append(item)
        if item.startswith("early"):
            made.append(item)

    early = job("early", calls([f"early {n}" for n in range(6)], take))
    late = job("late", calls(following(), take), ready=lambda: bool(made))
    Scheduler(share(1, 1), 60).run([early, late])
    assert sorted(order) == sorted([f"{name} {n}" for name in ("early", "late") for n in range(6)])
    assert order.index("late 0") < order.index("early 5")


def test_results_that_come_early_are_no_more_than_they_may_be(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "AHEAD_OF_FIRST", 5)
    go_on = tmp_path / "go on"

    @ray.remote(num_cpus=0)
    def last_of_the_first(item):
        while item == 0 and not go_on.exists():
            time.sleep(0.1)
        time.sleep(1 if item == 0 else 0)
        return item

    def take(index, item, result):
        early.append(item)
        if len(early) == 15:
            go_on.touch()

    early = []
    Scheduler(share(4, 4), 60).run(
        [job("a", calls(range(24), take, lambda item, cpus: last_of_the_first.remote(item)))]
    )
    assert sorted(early[:15]) == list(range(1, 16)) and early[15] == 0 and sorted(early) == list(range(24))


@pytest.mark.parametrize("claim", [0.1, 1.0])  # as on CPUs, and on GPUs
def test_while_models_are_held_no_task_waits_for_a_whole_cpu_and_one_job_holds_them(ray_cluster, claim):
    claims, held, ended = [], [], []

    def submit(item, cpus):
        claims.append((item, cpus, len(held)))
        return work.remote(item)

    def models(name):
        held.append(name)
        assert len(held) == 1
        yield calls([f"{name} {n}" for n in range(3)], submit=lambda item, cpus: work.remote(item), room=lambda: 2)
        held.remove(name)
        ended.append(name)

    def items():
        yield from range(300)
        while len(ended) < 2:
            yield None
        yield "the last"

    tasks = Job("tasks", lambda: True, iter([calls(items(), submit=submit)]))
    two = [Job(name, lambda: len(claims) > 8, models(name), claim) for name in ("one", "other")]
    Scheduler(share(2, 4), 60).run([tasks, *two])
    assert {cpus for _, cpus, holding in claims if holding} == {claim}
    assert {cpus for _, cpus, _ in claims} == {1.0, claim} and claims[-1][1] == 1.0


def seconds(facts):
    return {each.sent.units: round(each.end - each.start) for each in facts}


def test_calls_that_are_lost_have_worked_since_a_worker_was_free_for_them(monkeypatch):
    """Two workers. `b` and then `d`, which waits for `a`, are lost; when nothing comes, `e` works and `f` waits."""
    sent, lost = [], []
    submit = sends(sent)

    def come(now):
        if now not in ends:
            return
        made = next(each.made for each in sent if each.item == ends[now] and not each.made.done())
        if ends[now] in "ac":
            made.set_result(None)
        else:
            made.set_exception(WorkerCrashedError())

    ends = {10: "b", 20: "a", 50: "c", 60: "d"}
    clock = Clock(monkeypatch, come)
    running = clock.of(Scheduler(share(2, 4), stall_seconds=100, lost=lost.append))
    with pytest.raises(WorkError, match="nothing came back"):
        running.run([job("a stage", calls("abcdef", submit=submit))])
    # `c` begins at 10, `d` at 20, `b` again at 50, `e` at 60.
    assert [(each.sent.units, round(each.end - each.start)) for each in lost[:2]] == [("b", 10), ("d", 40)]
    assert seconds(lost[2:]) == {"b": clock.now - 50, "e": clock.now - 60}
    assert all(each.sent.step == "lost" and each.counts == {"seconds: lost": each.end - each.start} for each in lost)


def test_of_calls_at_a_lost_model_the_first_has_worked(monkeypatch):
    sent, lost = [], []
    submit = sends(sent)

    def come(now):
        if now == 30:
            sent[1].made.set_exception(ActorDiedError())
            sent[0].made.set_exception(ActorDiedError())
        elif now > 30:
            for each in sent[2:]:
                each.made.done() or each.made.set_result(None)

    judged = {}

    def is_lost(reference, loss):
        judged[reference] = reference is sent[0]
        return judged if len(judged) == 2 else {}

    step = calls("ab", submit=submit, room=lambda: 2, held=lambda reference: Held(5.0, "n", 7, 1), lost=is_lost)
    Clock(monkeypatch, come).of(Scheduler(share(2, 4), stall_seconds=100, lost=lost.append)).run([job("models", step)])
    [facts] = lost
    assert (facts.sent.units, facts.node, facts.pid, facts.gpus) == ("a", "n", 7, 1)
    assert (facts.end - facts.start, facts.waited) == (pytest.approx(25), pytest.approx(5))


def test_a_call_that_was_made_twice_is_counted_also_if_it_ends_after_its_step(monkeypatch):
    sent, heard, lost = [], [], []
    submit = sends(sent)

    def come(now):
        twins = [each for each in sent if each.item == "d"]
        if sent[0].item == "a" and not sent[0].made.done():
            sent[0].made.set_result("a")
        elif len(twins) == 2 and not twins[1].made.done():
            twins[1].made.set_result("d")
        elif (late := [each for each in sent if each.item == "z"]) and not twins[0].made.done():
            twins[0].made.set_result("d, late")
            late[0].made.set_result("z")

    running = Scheduler(share(2, 4), 500, heard=lambda told: heard.append(told) or told, lost=lost.append)
    steps = [calls("ad", submit=submit), calls("z", submit=submit)]
    Clock(monkeypatch, come).of(running).run([job("a stage", *steps)])
    assert heard == ["a", "d", "d, late", "z"] and not lost


def test_what_is_lost_at_once_is_sent_again_after_a_pause_that_grows(monkeypatch):
    """A cluster whose nodes are gone as soon as something is sent there; then it is well again."""
    sent, got = [], []

    def submit(item, cpus):
        sent.append((clock.now, Reference(item)))
        return sent[-1][1]

    def come(now):
        for _, each in sent:
            if not each.made.done():
                if now < 100:
                    each.made.set_exception(NodeDiedError("its node has died"))
                else:
                    each.made.set_result(None)

    clock = Clock(monkeypatch, come)
    took = lambda index, item, result: got.append(item)  # noqa: E731
    clock.of(Scheduler(share(1, 1), stall_seconds=1000)).run([job("a stage", calls("a", took, submit))])
    assert got == ["a"]
    times = [at for at, _ in sent]
    assert [later - before for before, later in itertools.pairwise(times)] == [2, 3, 5, 9, 17, 31, 31, 31][
        : len(times) - 1
    ]


def test_a_step_whose_items_are_all_paused_waits_and_a_run_that_has_only_losses_stalls(monkeypatch):
    sent = []
    submit = sends(sent)

    def come(now):
        for each in sent:
            if not each.made.done():
                each.made.set_exception(NodeDiedError("its node has died"))

    clock = Clock(monkeypatch, come)
    with pytest.raises(WorkError, match="nothing came back for 5 min 0 s; in flight: a, b"):
        clock.of(Scheduler(share(2, 2), stall_seconds=300)).run([job("a stage", calls("ab", submit=submit))])
    assert 300 < clock.now < 340 and len(sent) < 40


def test_losses_that_come_all_the_time_are_no_results(monkeypatch):
    """Each second one of many items is lost, so that there is always something that comes."""
    sent = []
    submit = sends(sent)

    def come(now):
        for each in [each for each in sent if not each.made.done()][:1]:
            each.made.set_exception(NodeDiedError("its node has died"))

    clock = Clock(monkeypatch, come)
    with pytest.raises(WorkError, match="nothing came back for 5 min 0 s"):
        clock.of(Scheduler(share(60, 60), stall_seconds=300)).run([job("a stage", calls(range(60), submit=submit))])
    assert 300 < clock.now < 340


def test_a_pause_may_end_between_two_looks_at_the_clock(monkeypatch):
    sent, got = [], []
    submit = sends(sent)

    def come(now):
        for each in sent:
            if not each.made.done():
                each.made.set_exception(NodeDiedError("its node has died")) if now < 500 else each.made.set_result(None)

    class Running(Clock):
        """Time goes on with each look."""

        def monotonic(self):
            self.now += 0.25
            return self.now

    clock = Running(monkeypatch, come)
    took = lambda index, item, result: got.append(item)  # noqa: E731
    clock.of(Scheduler(share(1, 1), stall_seconds=10_000)).run([job("a stage", calls("a", took, submit))])
    assert got == ["a"] and len(sent) > 10


def test_when_a_worker_is_lost_and_the_cluster_too_nothing_is_charged_to_the_unit(monkeypatch):
    sent, said = [], []
    submit = sends(sent)

    def confirm():
        raise HeadLostError("lost")

    clock = Clock(monkeypatch, lambda now: sent[0].made.set_exception(WorkerCrashedError()))
    with pytest.raises(HeadLostError):
        clock.of(Scheduler(share(2, 2), 300, said=said.append, confirm=confirm)).run(
            [job("s", calls("a", submit=submit))]
        )
    assert len(sent) == 1 and not said


def test_inputs_that_the_driver_can_count_are_searched_without_a_call(monkeypatch):
    """Of three inputs, the second ends its worker."""
    sent, got = [], []

    def send(item, inputs):
        sent.append((inputs, Reference(item)))
        return sent[-1][1]

    def come(now):
        for inputs, each in sent:
            if not each.made.done():
                if 1 in inputs:
                    each.made.set_exception(WorkerCrashedError())
                else:
                    each.made.set_result(inputs)

    narrowing = Narrowing(
        count=lambda item, cpus: len(item),
        attempt=lambda item, part, left_out, cpus: send(item, [at for at in part if at not in left_out]),
        without=lambda item, found: tuple(at for at in item if at not in found),
    )
    take = lambda index, item, made: got.append((item, made))  # noqa: E731
    step = calls([(0, 1, 2)], take, lambda item, cpus: send(item, list(item)), narrowing=narrowing)
    Clock(monkeypatch, come).of(Scheduler(share(2, 4), stall_seconds=300)).run([job("a stage", step)])
    tried = [[0, 1, 2]] * 2 + [[], [0], [1, 2], [1], [1], [2], [0, 2]]
    assert [inputs for inputs, _ in sent] == tried and got == [((0, 2), [0, 2])]
