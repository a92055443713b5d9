"""What happens to items whose call has lost its worker: they are sent again, and those to blame are searched through.

An item is sent again alone. If it loses a worker that worked on nothing else, twice, the cause may be one of its
inputs. These are looked for, and the item is made without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from annotate.engine.going import Call, Going, Item, Losses
from annotate.engine.losses import too_often
from annotate.engine.overdue import TOO_LONG
from annotate.engine.search import Search
from annotate.errors import WorkError
from annotate.storage.retries import COUNTED
from annotate.tally import count

ATTEMPTS = 4
"""How often an item may lose its worker, and how often to want of memory, before the run ends."""
SUSPECT = 2
"""How often an item, alone in a worker, loses it before the search in it begins."""
TELL_SECONDS = 60.0
"""Of losses of one kind, the first is told at once; those that follow are counted, and told after so long."""
SEARCH_SECONDS = 30.0
"""How far a search is, is told after so long, where an attempt is made meanwhile."""
TOLD = {
    "node": "lost with its node",
    "memory": "its worker was ended because its node had too little memory left",
    "time": TOO_LONG,
    "worker": "the process of its worker ended while it worked on this",
    "others": "its worker was lost while it worked on something else",
}

RETRIED = {
    "node": "lost node",
    "memory": "out of memory",
    "time": "too long",
    "worker": "lost worker",
    "others": "lost worker of others",
}
"""The names of these kinds among what is tried again."""


class BeginAnew(Exception):
    """Nothing can go on but in a new run, which leaves out what ends its worker."""


@dataclass
class Recovery:
    """Sends what was lost again.

    Attributes:
        said: takes warnings.
        searching: takes the label of a job, the name of an item, and how far the search in it is; empty at its end.
    """

    said: Callable[[str], None]
    searching: Callable[[str, str, str], None] = lambda label, name, how_far: None

    def lost(self, going: Going, call: Call, *, guilty: bool) -> None:
        """Send the items of a call again. If it had one item, and its worker was working on this, count it.

        There is a pause before, if it was lost at once with its node, or for want of memory.

        Raises:
            WorkError: the item has lost its worker too often.
        """
        loss, item = call.loss, call.items[0]
        assert loss is not None
        if guilty:
            loss = loss.explained(going.job.label, going.name_of(call))
        kind = loss.kind if guilty or not loss.own else "others"
        if any(each.index in going.open for each in call.items):  # else another call has made them
            count(COUNTED + RETRIED[kind])
            if call.does != "tries":  # a search tells how many attempts it took
                losses = going.losses.setdefault(kind, Losses())
                losses.new, losses.last = losses.new + 1, going.name_of(call)
        alone = guilty and len(call.items) == 1
        if loss.kind == "memory" and alone:
            item.starved += 1
        elif loss.own and alone and call.does != "tries":
            item.lost += 1
        if item.lost == ATTEMPTS and call.does == "counts" and item.narrowing and item.narrowing.instead is not None:
            item.narrowing, item.lost = item.narrowing.instead, SUSPECT
        if ATTEMPTS in (item.lost, item.starved):
            raise too_often(going.job.label, going.name(item), ATTEMPTS, loss)
        if loss.own and guilty and call.does == "tries":
            self.searched(going, item, loss.kind)
            return
        lost = [each for each in call.items if each.index in going.open and not each.calls]
        if not loss.own:
            for each in lost:
                each.pause.lost(call.came, sent=call.sent)
        going.again += [each for each in lost if each not in going.again]

    def search(self, going: Going, item: Item, inputs: int) -> None:
        """Begin the search for the inputs of an item that end its worker."""
        assert item.narrowing is not None
        if not inputs:  # nothing to search among: it is tried as a whole until it has been lost too often
            item.vain = True
            going.again.append(item)
            return
        item.search, item.told = Search.among(inputs, item.left_out), time.monotonic()
        for losses in going.losses.values():
            if losses.last == going.name(item):  # the line below tells of them
                losses.new = 0
        self.said(
            f"{going.job.label}: {going.name(item)} lost its worker {item.lost} times, with nothing else in "
            f"it; looking for the cause among its {inputs:,} {item.narrowing.inputs}"
        )
        self._go_on(going, item)

    def searched(self, going: Going, item: Item, ended: str | None = None) -> None:
        """A part of an item was tried; `ended` is the kind of loss if it has ended its worker."""
        narrowing, search = item.narrowing, item.search
        assert narrowing is not None and search is not None
        if ended is None:
            search.passed()
        else:
            search.ended(ended)
            # Of several, one has to be innocent: if each ends its worker, the cause is what they have in common.
            most = None if narrowing.most is None else min(narrowing.most, max(1, search.inputs - 1))
            if most is not None and len(search.found) - len(item.left_out) > most:
                which = f"more than {most}" if most < search.inputs - 1 else f"all {search.inputs}"
                raise WorkError(
                    f"{going.job.label}: {going.name(item)}: {which} of its {narrowing.inputs} end the worker, each of "
                    "them alone",
                    hint="So the cause is not in a few of them. Look into the log of a worker that died: it has the "
                    "stack of a crash. `annotate status` names it.",
                )
        self._go_on(going, item)

    def _go_on(self, going: Going, item: Item) -> None:
        """Try the next part of an item; at the end of the search, make it without what was found."""
        narrowing, search = item.narrowing, item.search
        assert narrowing is not None
        if search is not None:
            self._tell_how_far(going, item, search)
        if search is not None and search.part() is None:
            found, inputs = len(search.found) - len(item.left_out), narrowing.inputs
            end = "ends its worker" if found == 1 else "end their worker"
            what = f"{found:,} of its {search.inputs:,} {inputs} {end}" if found else f"none of its {inputs} does"
            tried = f"found in {search.attempts:,} attempts" if found else f"tried in {search.attempts:,} attempts"
            self.said(f"{going.job.label}: {going.name(item)}: {what}; {tried}")
            item.left_out = dict(sorted(search.found.items()))
            rest = narrowing.without(item.item, item.left_out) if found else item.item
            item.search, item.lost, item.vain = None, 0, rest is item.item
            if rest is None:  # the item stays open, so its step does not end
                going.anew = True
                return
            item.item = rest
        going.again.append(item)

    def _tell_how_far(self, going: Going, item: Item, search: Search) -> None:
        assert item.narrowing is not None
        now, inputs, how_far = time.monotonic(), item.narrowing.inputs, ""
        if search.part() is not None:
            if now - item.told < SEARCH_SECONDS:
                return
            found = f", {len(search.found) - len(item.left_out):,} found"
            how_far = (
                f"{search.left:,} of its {search.inputs:,} {inputs} left to search{found}, {search.attempts:,} attempts"
            )
        item.told = now
        self.searching(going.job.label, going.name(item), how_far)

    def tell(self, going: Going, *, ends: bool = False) -> None:
        """Say what was lost: a line for each kind of loss, the first time at once, then now and then, and at the end.

        What Ray says of a loss is in the event log: the deaths of workers, with the paths of their logs.
        """
        now = time.monotonic()
        for kind, losses in going.losses.items():
            if losses.new and (ends or losses.told is None or now - losses.told > TELL_SECONDS):
                more = "calls" if losses.told is None else "more calls"
                which = losses.last if losses.new == 1 else f"{losses.new:,} {more}, the last {losses.last}"
                self.said(f"{going.job.label}: {which}: {TOLD[kind]}. Tried again")
                losses.new, losses.told = 0, now
