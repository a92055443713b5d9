"""How much of a cluster models and their feeders claim: always something for both, on every kind of cluster."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annotate.engine import cluster, plan_models
from annotate.engine.cluster import Resources, part_of
from annotate.engine.options import Options
from annotate.errors import ConfigError


class Stage:
    label = "annotations (niceness)"

    def __init__(self, threads=1, *, gpu=True, gpus=1.0):
        self.threads, self.gpu, self.gpus = threads, gpu, gpus


class Cluster:
    """Stands for `ray`, of which only what there is is asked."""

    def __init__(self, *nodes):
        self._nodes = [
            {"NodeID": str(at), "Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}}
            for at, (cpu, gpu) in enumerate(nodes)
        ]

    def is_initialized(self):
        return True

    def nodes(self):
        return self._nodes


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=4),
    st.integers(1, 4),
    st.none() | st.integers(1, 100),
    st.booleans(),
    st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (3, 3)]),
    st.sampled_from([1.0, 0.5, 0.3, 2.0, 4.0]),
)
@example(nodes=[(1, 1)], threads=1, workers=None, gpu=True, runs=(2, 2), each=1.0)
def test_models_leave_cpus_to_what_feeds_them(nodes, threads, workers, gpu, runs, each):
    runs, on_gpus = runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "ray", Cluster(*nodes))
        gpus = sum(n[1] for n in nodes)
        fit = [n[1] * int(1 / each) if each < 1 else int(n[1] // each) for n in nodes]
        stage = Stage(threads, gpu=gpu, gpus=each)
        if gpus and gpu and not sum(fit):
            most = max(n[1] for n in nodes)
            with pytest.raises(ConfigError, match=rf"takes {each:g} GPUs, but no node has more than {most}\b"):
                Resources.of_models(stage, Options(workers=workers))
            return
        if threads > max(n[0] for n in nodes) and not (gpus and gpu):
            with pytest.raises(ConfigError, match="threads"):
                Resources.of_models(stage, Options(workers=workers))
            return
        found = Resources.of_models(stage, Options(workers=workers), runs, on_gpus)
    assert found.gpus == (each if gpus and gpu else 0)
    assert found.workers >= 1 and (not found.gpu or found.workers <= sum(fit))
    assert found.model_cpus > 0 and found.feeder_cpus > 0
    assert _room([(n[0], many) for n, many in zip(nodes, fit, strict=True)], found) >= found.feeder_cpus - 1e-6
    cpus = sum(n[0] for n in nodes)
    models = min(on_gpus * found.workers, sum(fit)) if found.gpu else runs * found.workers
    tasks = runs * part_of(workers or cpus, runs)
    claimed = models * found.model_cpus + tasks * found.feeder_cpus
    assert claimed <= cpus + 1e-6, "tasks of other stages, as many as may run, keep a model waiting"


def _room(nodes, found):
    """CPUs left on the emptiest node when all models run, of which as many as can are packed on each node in turn."""
    left = found.workers
    room = []
    for cpus, gpus in nodes:
        fit = int(cpus / found.model_cpus + 1e-9)
        here = min(left, gpus if found.gpu else int(0.9 * cpus / found.model_cpus + 1e-9))
        assert here <= fit
        left -= here
        room.append(cpus - here * found.model_cpus)
    assert left == 0, "some models fit on no node"
    return max(room)


@pytest.mark.parametrize(
    ("nodes", "threads", "workers", "models"),
    [
        ([(1, 0), (1, 0)], 1, 3, 3),
        ([(60, 0), (4, 8)], 1, None, 8),
        ([(3, 0)] * 3, 2, 4, 4),
        ([(8, 0)] * 100, 1, None, 800),
    ],
)
def test_models_fit_on_the_nodes_there_are_and_not_just_on_their_sum(monkeypatch, nodes, threads, workers, models):
    monkeypatch.setattr(cluster, "ray", Cluster(*nodes))
    found = Resources.of_models(Stage(threads), Options(workers=workers))
    assert found.workers == models
    assert _room(nodes, found) >= found.feeder_cpus - 1e-6


def test_a_device_can_be_chosen(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Cluster((4, 2)))
    assert not Resources.of_models(Stage(), Options(device="cpu")).gpu
    assert Resources.of_models(Stage(gpu=False), Options(device="cuda")).gpu
    monkeypatch.setattr(cluster, "ray", Cluster((4, 0)))
    with pytest.raises(ConfigError, match="no GPU"):
        Resources.of_models(Stage(), Options(device="cuda"))


def test_feeders_that_the_option_workers_allows_are_told_from_those_that_cpus_do(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Cluster((16, 2)))
    found = {workers: Resources.of_models(Stage(), Options(workers=workers)) for workers in (None, 2, 16, 32)}
    assert {workers: (each.feeders, each.asked) for workers, each in found.items()} == {
        None: (8, False),
        2: (1, True),
        16: (8, False),
        32: (16, False),
    }


def test_more_models_than_fit_are_asked_for_where_an_autoscaler_adds_nodes(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Cluster((4, 0)))
    few, many = Options(), Options(grow_to=10)
    found = Resources.of_models(Stage(), many)
    assert found.workers == 10
    assert replace(found, workers=4) == Resources.of_models(Stage(), few), "each claims as much as if all had room"
    assert Resources.of_models(Stage(), many, 2) == Resources.of_models(Stage(), few, 2), "with others, its part"
    few, many = replace(few, device="cuda"), replace(many, device="cuda")
    monkeypatch.setattr(cluster, "ray", Cluster((4, 2)))
    assert Resources.of_models(Stage(), many, 2, 1).workers == 10, "the other run has no models on GPUs"
    assert Resources.of_models(Stage(), many, 2, 2) == Resources.of_models(Stage(), few, 2, 2)
    monkeypatch.setattr(cluster, "ray", Cluster((4, 0)))
    # GPUs that are not there yet can be asked for. They are no reason to take turns with other runs.
    found = Resources.of_models(Stage(), Options(grow_to=3, device="cuda"))
    assert found.gpu and found.workers == 3 and not found.crowded
    assert 0 < found.feeder_cpus * 4 <= 4
    with pytest.raises(ConfigError, match="only one"):
        Options(grow_to=3, workers=2)


def test_runs_take_turns_where_more_have_models_on_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Cluster((4, 2)))
    assert [Resources.of_models(Stage(), Options(), 3, on_gpus).crowded for on_gpus in (1, 2, 3)] == [
        False,
        False,
        True,
    ]
    assert [Resources.of_models(Stage(), Options(), 3, on_gpus).workers for on_gpus in (1, 2, 3)] == [2, 1, 1]


def test_without_a_cpu_a_run_begins_only_where_an_autoscaler_adds_nodes(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Cluster((0, 0)))
    with pytest.raises(ConfigError, match="0 CPUs") as caught:
        cluster.check_cpus(Options())
    assert "--grow-to" in caught.value.hint
    cluster.check_cpus(Options(grow_to=1))


def test_a_run_waits_for_the_first_node_and_says_so(monkeypatch):
    answers, said = iter(([], [], ["the call"])), []
    ray = Cluster((0, 0))
    ray.remote = lambda **claims: lambda function: SimpleNamespace(remote=lambda: claims)
    ray.wait = lambda calls, timeout: (next(answers), calls)
    monkeypatch.setattr(cluster, "ray", ray)
    cluster.wait_for_cpu(Options(), said.append)
    assert not said
    cluster.wait_for_cpu(Options(grow_to=1), said.append)
    assert len(said) == 1 and "waits until its autoscaler adds a node" in said[0]
    assert not list(answers), "it looks again until the call is back"
    answers = iter(([], [], ["the call"]))
    monkeypatch.setattr(cluster, "WAIT_SECONDS", -1.0)
    cluster.wait_for_cpu(Options(grow_to=1), said.append)
    assert len(said) == 4, "it says so from time to time"
    monkeypatch.setattr(cluster, "ray", Cluster((0, 0), (1, 0)))
    cluster.wait_for_cpu(Options(grow_to=1), said.append)
    assert len(said) == 4


def test_a_plan_for_a_cluster_that_is_to_grow_does_not_ask_for_what_is_not_there_yet(monkeypatch):
    for module in (cluster, plan_models, cluster.nodes):
        monkeypatch.setattr(module, "ray", Cluster((0, 0)))
    monkeypatch.setattr(plan_models, "Model", Stage)
    with pytest.raises(ConfigError, match="has 0 CPUs"):
        plan_models.check_device([Stage()], Options(device="cuda"))
    plan_models.check_device([Stage()], Options(device="cuda", grow_to=2))
    for module in (cluster, plan_models):
        monkeypatch.setattr(module, "ray", Cluster((4, 0)))
    with pytest.raises(ConfigError, match="has no GPU"):
        plan_models.check_device([Stage()], Options(device="cuda"))
