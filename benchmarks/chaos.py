"""Runs a pipeline on clusters where things go wrong, by seeds, and compares what it makes with an undisturbed run.

    python benchmarks/chaos.py [--seeds 100] [--first 0] [--documents 200] [--models] [--folder DIR] [--json FILE]

Each seed is a schedule: a cluster of two or three nodes on this machine, one or two runs at once in one work directory,
on a disk or on an S3 server behind a proxy that injects faults into a tenth of the requests, and a few faults of the
cluster: nodes that are killed and not replaced, nodes that join, workers that are killed or stopped for a while, and
drivers that are killed. A driver that was killed is started again; no other is. A cheap function scores the spans; with
`--models` the shipped niceness probe on its encoder does.

Prints, and writes where `--json` says:

- `schedules`: those that were run;
- `faults`: of the cluster, that were injected; those of the store are counted apart, in the raw figures;
- `differing`: schedules whose training shards or ledger differ from those of the undisturbed run (aim: 0);
- `ended_by_itself`: schedules whose runs, drivers that were killed aside, all ended with exit code 0 (aim: all).

With `--folder` the results are kept there: a second run of this command makes only the schedules that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from report import parser, write_json

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 900.0
"""A schedule that takes longer has not ended by itself. Alone on a machine they take one to two minutes."""
PIPELINE = """
import time
import numpy as np
import annotate
from annotate import Corpus, NearDuplicates, Pipeline, Place, Probe, PythonScorer, Render, Split, Tag, TagScheme, score

def lengths(table):
    time.sleep(0.1)
    return np.array([len(text) for text in table["text"].to_pylist()], np.float32)

corpus = Corpus({corpus!r}, unit_bytes=1500)
scorer = {scorer}
verdicts = NearDuplicates(corpus, threshold=0.8, group_span=None, group_threshold=0.8)
scores = score(Split(corpus), [scorer], skip=verdicts)
scheme = TagScheme(tags=(Tag(name="high", rule="{axis} >= q(0.5)"),))
pipeline = Pipeline(Render(Place(scores, scheme), part_bytes=8000))
if __name__ == "__main__":
    annotate.main(pipeline)
"""
# The scorer of a pipeline, and its axis.
CHEAP = ('PythonScorer(function=lengths, axes=("length",), version="1")', "length")
MODEL = ('Probe("niceness")', "niceness")
FAULTS = ("node killed", "node joins", "worker killed", "worker stopped", "driver killed")
# A node that is killed is seen after a few seconds: it refuses each check at once. A busy one may take long to answer.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "30000",
    "RAY_health_check_failure_threshold": "4",
    # Idle workers stay for a minute, as on a local Ray and in the image: else most calls start a process.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}


def main() -> None:
    """Run the schedules, or, in a process of its own, one of them."""
    arguments = parser(__doc__, runs=1)
    arguments.add_argument("--seeds", type=int, default=100)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--documents", type=int, default=200)
    arguments.add_argument("--models", action="store_true")
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--schedule", type=int, help="run only this schedule, in this process")
    options = arguments.parse_args()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        if options.schedule is not None:
            result = Schedule(folder, options.schedule).run()
            (folder / f"seed-{options.schedule}.json").write_text(json.dumps(result))
            return
        prepare(folder, options.documents, MODEL if options.models else CHEAP)
        seeds = range(options.first, options.first + options.seeds)
        results = [schedule(folder, seed) for seed in seeds]
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result["faults"])
    ratios = {
        "schedules": len(results),
        "faults": faults.total(),
        "differing": sum(result["differs"] for result in results),
        "ended_by_itself": sum(result["ended"] for result in results),
    }
    for name, value in ratios.items():
        print(f"{name}: {value}")
    print(", ".join(f"{name} {n}" for name, n in sorted(faults.items())))
    write_json(options.json, ratios, {"models": options.models, "faults": dict(faults), "results": results})


def prepare(folder: Path, documents: int, scorer: tuple[str, str]) -> None:
    """Write the corpus and the pipeline, and run it undisturbed, unless that is done."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = PIPELINE.format(corpus=str(folder / "corpus"), scorer=scorer[0], axis=scorer[1])
    if (folder / "undisturbed.json").exists():
        if (folder / "pipeline.py").read_text() != pipeline:
            sys.exit(f"{folder} has schedules of another pipeline: name another --folder")
        return
    words = [word for word in Path(__file__).read_text().replace("(", " ").split() if word.isalpha()]
    (folder / "corpus").mkdir(exist_ok=True)
    for shard in range(2):
        draw = random.Random(shard)
        texts = []
        for _ in range(documents // 2):
            lines = (" ".join(draw.choices(words, k=draw.randint(4, 14))) for _ in range(draw.randint(3, 7)))
            texts.append(". ".join(line.capitalize() for line in lines) + ".")
        texts[-1] = texts[0]
        ids = [f"doc-{shard}-{i}" for i in range(len(texts))]
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / "corpus" / f"s{shard}.parquet")
    (folder / "pipeline.py").write_text(pipeline)
    out = folder / "undisturbed"
    subprocess.run(
        [sys.executable, str(folder / "pipeline.py"), "--workdir", str(out)],
        check=True,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (folder / "undisturbed.json").write_text(json.dumps(made(str(out))))


def schedule(folder: Path, seed: int) -> dict[str, Any]:
    """The result of one schedule, which runs in a process of its own unless it was run before."""
    place = folder / f"seed-{seed}.json"
    if not place.exists():
        command = [sys.executable, str(Path(__file__)), "--schedule", str(seed), "--folder", str(folder)]
        with (folder / f"seed-{seed}.log").open("wb") as log:  # no pipe: what a killed node leaves would hold it open
            done = subprocess.run(command, stdout=log, stderr=log, env={**_environment(), **QUICK})
        if done.returncode or not place.exists():
            print(f"seed {seed}: the schedule itself failed, see {log.name}", file=sys.stderr)
            return {"seed": seed, "faults": {}, "differs": True, "ended": False, "seconds": 0.0}
    result: dict[str, Any] = json.loads(place.read_text())
    said = "differs" if result["differs"] else "ended" if result["ended"] else "did not end by itself"
    print(f"seed {seed}: {said}, {result['seconds']:.0f} s, {result['faults']}", flush=True)
    return result


def made(workdir: str) -> dict[str, Any]:
    """What a run has made: checksums of the shards, in order, by name, and the ledger."""
    import annotate
    from annotate.engine.ledger import read_ledgers
    from annotate.storage.store import Directory

    found = {}
    for path in annotate.shards(workdir):
        folder, _, name = path.rpartition("/")
        found[name] = hashlib.sha256(Directory.at(folder).get(name)).hexdigest()
    ledger = read_ledgers(Directory.at(workdir))["shards"]
    return {"shards": list(found.items()), "documents": ledger.documents, "states": dict(ledger.states)}


def differs(folder: Path, workdir: str) -> bool:
    """Whether what a run has made differs from what the undisturbed run made."""
    undisturbed = json.loads((folder / "undisturbed.json").read_text())
    return bool(json.loads(json.dumps(made(workdir))) != undisturbed)


class Schedule:
    """One schedule, a function of its seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.draw = folder, seed, random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.environment = _environment()
        self.nodes: list[Any] = []
        self.drivers: list[subprocess.Popen[bytes]] = []

    def run(self) -> dict[str, Any]:
        """Run it; returns what happened."""
        sys.path.append(str(ROOT / "tests"))
        from object_store import BUCKET, FaultProxy, environment, mixed, s3
        from ray.cluster_utils import Cluster

        began = time.monotonic()
        with ExitStack() as stack:
            self.workdir, proxy = str(self.folder / f"out-{self.seed}"), None
            if self.draw.random() < 0.4:
                proxy = stack.enter_context(FaultProxy(stack.enter_context(s3()), mixed(0.1), self.seed))
                proxy.stall = 5.0  # a client gives up after half a minute, of which a schedule would have many
                os.environ.update(environment(proxy.address))
                self.environment |= environment(proxy.address)
                self.workdir = f"s3://{BUCKET}/out"
            # Nodes inherit the environment, and with it the credentials.
            self.cluster = Cluster(initialize_head=True, head_node_args=_node())
            stack.callback(self.cluster.shutdown)
            for _ in range(self.draw.randint(1, 2)):
                self._node_joins()
            self.environment["RAY_ADDRESS"] = self.cluster.address
            self.started = [self.draw.uniform(0, 6) for _ in range(1 + (self.draw.random() < 0.25))]
            ended = self._drive()
            if proxy is not None:
                proxy.shares = {}
            different = ended and differs(self.folder, self.workdir)
            store = dict(proxy.done) if proxy is not None else {}
        seconds = time.monotonic() - began
        return {
            "seed": self.seed,
            "runs": len(self.started),
            "faults": dict(self.faults),
            "store_faults": store,
            "differs": different,
            "ended": ended,
            "seconds": seconds,
        }

    def _drive(self) -> bool:
        """Start the drivers, let faults happen, and wait; whether all ended with exit code 0."""
        events = [(self.draw.uniform(4, 25), self.draw.choice(FAULTS)) for _ in range(self.draw.randint(2, 5))]
        todo = sorted([*((at, "start") for at in self.started), *events])
        since = time.monotonic()
        while todo or any(driver.poll() is None for driver in self.drivers):
            now = time.monotonic() - since
            if now > MOST_SECONDS:
                for driver in self.drivers:
                    driver.kill()
                return False
            if todo and todo[0][0] <= now:
                _, what = todo.pop(0)
                if what == "start":
                    self._start()
                elif any(driver.poll() is None for driver in self.drivers):
                    self.faults[what] += getattr(self, "_" + what.replace(" ", "_"))()
            time.sleep(0.1)
        return all(driver.returncode == 0 for driver in self.drivers)

    def _start(self) -> None:
        command = [sys.executable, str(self.folder / "pipeline.py"), "--workdir", self.workdir, "--share"]
        self.drivers.append(subprocess.Popen(command, env=self.environment, stdout=sys.stdout, stderr=sys.stderr))

    def _node_joins(self) -> bool:
        self.nodes.append(self.cluster.add_node(**_node()))
        return True

    def _node_killed(self) -> bool:
        if not self.nodes:
            return False
        self.cluster.remove_node(self.nodes.pop(self.draw.randrange(len(self.nodes))), allow_graceful=False)
        return True

    def _worker_killed(self) -> bool:
        with suppress(psutil.Error):  # it has just ended
            if (worker := self._worker()) is not None:
                worker.kill()
                return True
        return False

    def _worker_stopped(self) -> bool:
        with suppress(psutil.Error):
            if (worker := self._worker()) is not None:
                worker.suspend()
                later = threading.Timer(self.draw.uniform(2, 12), _resume, [worker])
                later.daemon = True
                later.start()
                return True
        return False

    def _driver_killed(self) -> bool:
        alive = [driver for driver in self.drivers if driver.poll() is None]
        if not alive:
            return False
        victim = self.draw.choice(alive)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.drivers.remove(victim)
        self._start()
        return True

    def _worker(self) -> psutil.Process | None:
        """A process of a worker that does something."""
        found = []
        for node in self.cluster.list_all_nodes():
            for raylet in node.all_processes.get("raylet", []):
                if psutil.pid_exists(raylet.process.pid):
                    children = psutil.Process(raylet.process.pid).children()
                    found += [child for child in children if "".join(child.cmdline()).startswith("ray::")]
        found = [process for process in found if "Agent" not in "".join(process.cmdline())]  # a node ends with these
        busy = [process for process in found if "IDLE" not in "".join(process.cmdline())]
        return self.draw.choice(busy or found) if found else None


def _resume(worker: psutil.Process) -> None:
    with suppress(psutil.Error):
        worker.resume()


def _node() -> dict[str, Any]:
    return {"num_cpus": 1, "object_store_memory": 100 << 20}


def _environment() -> dict[str, str]:
    """The environment of drivers and nodes: without that of another Ray."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name == "RAY_TMPDIR"}
    return {**kept, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
