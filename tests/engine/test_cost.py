"""Cost: what calls take, its price, and a budget that ends a run so that the same command goes on."""

import time

import pytest
import support

from annotate import BudgetError, Corpus, Options, Split, Tag, TagScheme, score, status
from annotate.amounts import amount
from annotate.engine.cost import Budget, Cost, Prices
from annotate.engine.facts import Facts, Held, Sent, facts_of_lost
from annotate.engine.plan import CorpusPlan, ScoringTime, _cost
from annotate.engine.worker import told
from annotate.errors import ConfigError

SENT = Sent("a stage", "work", "a unit", 1.0)


def test_a_call_costs_its_time_or_that_of_its_threads_and_the_gpu_that_it_holds():
    waits = Facts(SENT, "n", 1, 0.0, 100.0, 460.0, {}, 0, cpu=1.0)
    assert waits.cost == Cost(0.1, 0.0)
    threads = Facts(SENT, "n", 1, 0.0, 100.0, 460.0, {}, 0, cpu=720.0, gpus=2)
    assert threads.cost == Cost(0.2, 0.2)


def test_a_call_that_was_lost_costs_its_time_and_the_gpu_of_its_worker():
    now = time.monotonic()
    hung = facts_of_lost("a stage", "a unit", now - 4600, now - 3600, now, Held())
    assert (hung.cost.core_hours, hung.cost.gpu_hours) == (pytest.approx(1), 0)
    on_gpu = facts_of_lost("a stage", "a unit", now - 4600, now - 3600, now, Held(gpus=1))
    assert (on_gpu.cost.core_hours, on_gpu.cost.gpu_hours) == (pytest.approx(1), pytest.approx(1))
    assert (on_gpu.waited, on_gpu.end) == (pytest.approx(1000), pytest.approx(time.time(), abs=60))
    budget = Budget(2.0, Prices(gpu_hour=2.5))
    budget.spend(on_gpu.cost)
    with pytest.raises(BudgetError, match=r"1\.00 core-hours and 1\.00 GPU-hours, 2\.50 at the prices"):
        budget.check()


def test_a_call_tells_the_cpu_time_that_it_took():
    def spin():
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass

    [spins] = told(SENT, spin).facts
    [sleeps] = told(SENT, time.sleep, 0.2).facts
    assert spins.cpu >= 0.2 > 0.1 > sleeps.cpu and sleeps.cost.core_hours >= 0.2 / 3600


def test_a_budget_is_core_hours_or_money():
    free = Budget(None, Prices())
    free.spend(Cost(1e9, 1e9))
    free.check()
    budget = Budget(2.0, Prices())
    budget.spend(Cost(1.5, 100.0))
    budget.check()
    budget.spend(Cost(0.6, 1.0))
    with pytest.raises(
        BudgetError, match=r"the budget of 2 is spent: this run has taken 2.10 core-hours and 101.00 GPU"
    ):
        budget.check()
    budget = Budget(2.0, Prices(core_hour=0.1, gpu_hour=3.0))
    budget.spend(Cost(4.0, 0.5))
    budget.spend(Cost(0.0, 0.1))
    with pytest.raises(BudgetError, match=r"2\.20 at the prices given") as error:
        budget.check()
    assert error.value.exit_code == 7 and "same command" in error.value.hint


def test_small_amounts_have_useful_digits():
    assert Prices().told(Cost(0.000312, 0.0)) == "0.00031 core-hours"
    assert Prices(0.04).told(Cost(0.5, 0.0021)) == "0.50 core-hours and 0.0021 GPU-hours, 0.020 at the prices given"
    assert [amount(number) for number in (0, 0.0999, 1, 1234.5)] == ["0.00", "0.100", "1.00", "1,234.50"]


def test_a_budget_for_gpus_needs_their_price():
    with pytest.raises(ConfigError, match="a GPU-hour has no price"):
        Budget(2.0, Prices(core_hour=0.1)).check_gpus()
    Budget(2.0, Prices(gpu_hour=0.0)).check_gpus()
    Budget(None, Prices()).check_gpus()


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"price_core_hour": -1.0}, {"price_gpu_hour": -0.1}])
def test_wrong_amounts_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"must (be more than 0|not be negative)"):
        Options(**wrong)


def test_a_plan_counts_models_by_their_times_and_the_rest_by_size():
    on_cpu = ScoringTime("a", 10, 0, 3.0, 3600.0, 8, prepare_seconds=1.0, gpus=0, threads=4)
    on_gpu = ScoringTime("b", 10, 0, 3.0, 3600.0, 8, prepare_seconds=1.0, gpus=1, threads=1)
    assert on_cpu.cost == Cost(9.0, 0.0) and on_gpu.cost == Cost(3.0, 2.0)
    corpus = CorpusPlan("c", 20, 10, 1_000_000)

    class Stage:
        made_as = "map"

    assert _cost([], [on_cpu, on_gpu], [corpus]) == Cost(12.0, 2.0)
    assert _cost([Stage()], [], [corpus]).core_hours == pytest.approx((10 * 0.0002 + 0.1) / 3600)


def test_a_run_ends_at_its_budget_and_the_next_goes_on(ray_cluster, tmp_path):
    corpus = support.write_corpus(tmp_path / "corpus", shards=2)
    scores = score(Split(Corpus(corpus, unit_bytes=2000)), [support.scorer(tmp_path / "calls", "niceness")])
    pipeline = support.to_shards(scores, TagScheme(tags=(Tag(name="nice", rule="niceness >= q(0.7)"),)))
    pipeline.run(tmp_path / "whole")
    with pytest.raises(BudgetError, match="is spent"):
        pipeline.run(tmp_path / "out", Options(budget=1e-5))
    assert not status(tmp_path / "out").finished and list((tmp_path / "out").glob("*/units/*"))
    pipeline.run(tmp_path / "out", Options(budget=10.0))
    assert support.shard_bytes(tmp_path / "out") == support.shard_bytes(tmp_path / "whole")
