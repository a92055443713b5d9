"""The nodes of the Ray cluster: which are alive, and what each of them answers."""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from typing import TypeVar

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from annotate.engine.facts import node_name

Answer = TypeVar("Answer")

PATIENCE = 60.0
"""Seconds within which a node answers. One that does not may have just been lost, which a run survives."""


def alive(having: str | None = None) -> dict[str, str]:
    """The names of the nodes that are alive, by their ids; with `having`, of those that have some of this resource."""
    return {
        node["NodeID"]: node_name(node["NodeManagerAddress"], node["NodeID"])
        for node in ray.nodes()
        if node["Alive"] and (having is None or node["Resources"].get(having))
    }


def address_here() -> str:
    """The address of Ray's process on this node, HOST:PORT."""
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def leaving() -> frozenset[str]:
    """The ids of the nodes that are about to be taken away, as whoever does that has told Ray: preempted ones, for one.

    Ray places nothing new on them. It has no public function for this; where another version has another private one,
    no node is about to leave.
    """
    with suppress(ImportError, AttributeError, exceptions.RaySystemError):
        from ray._private.state import state

        return frozenset(state.get_draining_nodes())
    return frozenset()


def on_each_node(
    question: Callable[[], Answer],
    seconds: float = PATIENCE,
    only: Container[str] | None = None,
    *,
    strict: bool = True,
) -> dict[str, Answer]:
    """Call a function in a worker of each node, all at once.

    Args:
        question: the function; it takes no CPU of the cluster, so it should be quick.
        seconds: to wait for the answers.
        only: ids of the nodes to ask; None for all.
        strict: whether to raise what the function raises.

    Returns:
        The answers by the ids of the nodes; those of nodes that did not answer, or raised an error, are missing.

    Raises:
        Exception: what the function raised, on the first node where it did, if `strict`.
    """
    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node
        for node in alive()
        if only is None or node in only
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    found = {}
    for reference in answered:
        try:
            found[asked[reference]] = ray.get(reference)
        except ray.exceptions.RayTaskError:
            if strict:
                raise
        except ray.exceptions.RayError:  # the node is gone
            continue
    return found
