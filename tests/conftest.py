"""One Ray cluster for all tests of a process, and a small corpus with its pipeline."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its processes: tables would be cut that tests read
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray ends workers that have been idle for a second, where there are more than CPUs. Here they wait for the next test,
# whose tasks and models would else each start a process.
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
os.environ.setdefault("RAY_num_workers_soft_limit", "8")
# A test reads them where Ray exports them; by default, ten seconds later.
os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")
# Tiny models gain nothing from more threads, and on a busy machine lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Workers import what tests define, and the fault hook.
_HERE = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(_HERE.parent), str(_HERE), os.environ.get("PYTHONPATH", "")])

import hypothesis  # noqa: E402  # what it imports reads the environment
import pytest  # noqa: E402
import ray  # noqa: E402
import support  # noqa: E402

# How long an example takes tells of the machine's load, not of what is tested.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("untimed"), max_examples=15)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Mark what uses Ray."""
    for item in items:
        if "ray_cluster" in item.fixturenames:
            item.add_marker("ray")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Put back what loading a pipeline file leaves in a process: its folder, for modules that lie beside it."""
    paths, told = list(sys.path), os.environ["PYTHONPATH"]
    try:
        return (yield)
    finally:
        sys.path[:], os.environ["PYTHONPATH"] = paths, told


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """A local Ray cluster of three logical CPUs, whatever the machine has; gives its address to other processes.

    Its workers have the fault hook, which does nothing while there is no plan: see `fault_plan`.
    """
    os.environ["FAULT_PLAN"] = str(tmp_path_factory.mktemp("faults") / "plan.json")
    os.environ["ANNOTATE_FAULT_HOOK"] = "faults:kill"
    context = ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
    )
    del os.environ["ANNOTATE_FAULT_HOOK"]  # nodes have it; of drivers, those that `fault_plan` starts
    # What the pipelines of tests hold is sent by value: workers know no test modules.
    ray.cloudpickle.register_pickle_by_value(support)
    # Other drivers find the cluster by this; in RAY_ADDRESS itself it would send tests of the command line there too.
    os.environ["TEST_RAY_ADDRESS"] = context.address_info["address"]
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture
def ray_in_process():
    """Let pipelines run in this process: for tests of what they make. It takes a tenth of the time of real workers."""
    from here import ray_here  # imports the engine

    with ray_here():
        yield


@pytest.fixture(scope="module")
def fault_plan(ray_cluster):
    """The path of the plan of faults that processes of the session's cluster read; gone after the module."""
    plan = Path(os.environ["FAULT_PLAN"])
    yield plan
    plan.unlink(missing_ok=True)
