"""Checks the nodes of the cluster before anything runs: versions, modules of the pipeline, places, GPUs.

The driver's own node is asked only about GPUs, which no other check has used, and about object stores: the workers of a
Ray that others started may lack credentials that the driver has. A node that joins later is not asked. Its workers
compare versions before each call, see `worker.told`, and a model checks its GPU before it is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import ray
from ray import cloudpickle

from annotate.engine import nodes
from annotate.engine.facts import this_node
from annotate.engine.versions import check_versions, versions
from annotate.errors import ConfigError
from annotate.graph import Source, Stage
from annotate.storage import retries
from annotate.storage.connections import is_local
from annotate.storage.store import Directory

GPU_SECONDS = 120.0

Answer = tuple[Mapping[str, str], str | None]
"""What a node answers: versions by package, and what a worker there can't do, or None. A node may have no annotate, so
questions and answers have no type of it."""


def check_nodes(stages: Sequence[Stage], workdir: Directory) -> None:
    """Check that workers on every node can do what the driver can.

    Raises:
        ConfigError: a node has other versions, can't import the pipeline's modules, read a source, or write the work
            directory. The node is named.
    """
    read = {stage.outside.url for stage in stages if isinstance(stage, Source) and stage.outside is not None}
    sources, written = sorted(read), workdir.url
    asked = _with_workers(here=not all(is_local(url) for url in (*sources, written)))
    if not asked:
        return
    # Not in the function itself, which Ray keeps in the head and limits in size: stages may hold long lists.
    pickled = ray.put(cloudpickle.dumps(list(stages)))
    files = [file for stage in stages if isinstance(stage, Source) and (file := stage.first_file()) is not None]

    def ask() -> Answer:  # being a local function, it goes to workers by value
        try:
            from annotate.engine.check_nodes import answer
        except ImportError as error:
            return {"annotate": f"none that can be used ({error})"}, None
        return answer(ray.get(pickled), files, written)

    ours = versions()
    for node, (theirs, problem) in sorted(nodes.on_each_node(ask, only=asked).items()):
        check_versions(asked[node], theirs, ours)
        if problem is not None:
            raise ConfigError(
                f"workers on the node {asked[node]} {problem}",
                hint="What a pipeline uses has to be on the nodes: in the job's --working-dir, on their PYTHONPATH, or "
                "in the pipeline's file. Files have to lie in an object store, or on a disk that all nodes share; "
                "credentials have to be in the environment of the workers too.",
            )


def check_gpus() -> None:
    """Check that workers can use the GPUs of every node that has some.

    Raises:
        ConfigError: on a node they can't. The node is named.
    """
    with_gpus = nodes.alive("GPU")
    found = nodes.on_each_node(gpu_problem, GPU_SECONDS, only=with_gpus) if with_gpus else {}
    for node, problem in sorted(found.items()):
        if problem is not None:
            raise _no_gpu(with_gpus[node], problem)


def _no_gpu(node: str, problem: str) -> ConfigError:
    return ConfigError(
        f"models are to run on GPUs, but workers on the node {node} can't use theirs: {problem}",
        hint='Install a build of torch for its GPUs there, and their driver; or use the device "cpu".',
    )


def _with_workers(*, here: bool) -> dict[str, str]:
    """The names of the nodes that can have workers, by id; that of this process only with `here`."""
    own = ray.get_runtime_context().get_node_id()
    return {node: name for node, name in nodes.alive("CPU").items() if here or node != own}


# On a node.


def answer(pickled: bytes, files: Sequence[tuple[str, str, int]], workdir: str) -> Answer:
    """What this node answers.

    Args:
        pickled: the stages of the pipeline.
        files: from which a byte is read, as `Source.first_file` gives them.
        workdir: URL of the work directory, where a file is written, and removed again.
    """
    try:
        cloudpickle.loads(pickled)
    except Exception as error:
        return versions(), f"can't import the pipeline: {type(error).__name__}: {error}"
    with retries.within(retries.START_SECONDS / (len(files) + 1)):  # `on_each_node` waits for so long, and more
        for folder, path, size in files:
            try:
                Directory.at(folder).open(path, size).read(1)
            except Exception as error:
                return versions(), f"can't read {folder}/{path}: {error}"
        try:
            Directory.at(workdir).create()
        except Exception as error:
            return versions(), f"can't write the work directory: {error}"
    return versions(), None


def gpu_problem() -> str | None:
    """Why a process of this node can't use its GPUs; None if it can.

    Another process tries it, since Ray hides GPUs from one that has claimed none.
    """
    script = "import torch; print(torch.version.cuda or torch.version.hip, torch.cuda.is_available())"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_VISIBLE_DEVICES")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["torch can't be imported"])[-1]
    built, available = done.stdout.split()
    return _problem(built=built != "None", available=available == "True")


def check_gpu_here() -> None:
    """Check that this process can use the GPU that it holds: its node may have joined after the run began.

    Raises:
        ConfigError: it can't.
    """
    try:
        import torch
    except ImportError as error:
        raise _no_gpu(this_node(), str(error)) from None
    built = bool(torch.version.cuda or torch.version.hip)
    if (problem := _problem(built=built, available=torch.cuda.is_available())) is not None:
        raise _no_gpu(this_node(), problem)


def _problem(*, built: bool, available: bool) -> str | None:
    if available:
        return None
    return "torch finds no GPU" if built else "its torch is built for CPUs alone"
