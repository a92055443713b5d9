"""The watch of the memory benchmarks tells what each process is by the title that Ray and the engine give it."""

import contextlib
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

CALL = "ray::annotations (niceness): forward s0.parquet[0:9] and 3 more, now 2 of 4"
LONG = f"ray::annotations ({'axis ' * 50})"[:200]  # cut before the step
CHANGES = """
import sys
from ray._raylet import setproctitle
for title in sys.argv[1:]:
    setproctitle(title)
    print("set", flush=True)
    sys.stdin.readline()
"""


def kinds_of(several):
    """What the watch takes children of this process for, after each had each of its titles in turn."""
    from watch import Watch

    with Watch() as watch, contextlib.ExitStack() as stack:
        children = []
        for titles in several:
            command = [sys.executable, "-c", CHANGES, *titles]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            children.append(stack.enter_context(child))
        for at in range(max(map(len, several))):
            going = [child for child, titles in zip(children, several, strict=True) if at < len(titles)]
            for child in going:
                assert child.stdout.readline() == "set\n"
            while not all(child.pid in watch.peaks["start"] for child in children):
                time.sleep(0.05)  # new processes are looked for four times a second
            watch.now_doing("start")  # takes a sample
            for child in going:
                child.stdin.write("\n")
        watch.settle()
    return [watch.idle[child.pid].kind for child in children]


def test_a_model_is_a_model_while_it_works_on_a_call():
    several = {
        ("ray::IDLE",): "worker",
        ("ray::IDLE", "ray::annotations (niceness): prepare s0.parquet[0:9]"): "worker",
        ("ray::IDLE", "ray::ModelActor.__init__", "ray::ModelActor"): "model",
        ("ray::IDLE", "ray::ModelActor", CALL): "model",
        ("ray::IDLE", CALL): "model",
        ("ray::ModelActor", LONG): "model",
    }
    assert kinds_of(list(several)) == list(several.values())
