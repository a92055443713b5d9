"""Sends requests to a server that speaks OpenAI's API: several at a time, again where that may help, and counted."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from annotate import tally
from annotate.amounts import counted, duration
from annotate.credentials import HIDDEN, redacted
from annotate.errors import ConfigError, WorkError
from annotate.generators.base import Completions, Request
from annotate.generators.server_answers import (
    REFUSED,
    Answer,
    Passing,
    Refused,
    line,
    message_of,
    read_answer,
    read_whole,
    seconds_asked,
    without_text,
)
from annotate.randomness import keyed_hash, uniform

if TYPE_CHECKING:
    from annotate.generators.server_generator import ServerGenerator

FIRST_WAIT, LONGEST_WAIT, LONGEST_ASKED = 0.5, 60.0, 600.0
"""Seconds. Waits double; one that the server asks for is kept, up to ten minutes."""
CONNECT_SECONDS = 30.0
BUSY = (503, 529)
"""Statuses of a server that has too much to do."""
PROBE = Request("", "The", 0)
"""What any server completes: if it is not completed either, no document is at fault. Some refuse an empty text."""

LONG = 20
"""Characters of an opening that no answer begins with by chance."""

TRIED_AGAIN = "requests tried again: "
"""The names of the counts of failures begin so; the kind of failure stands after it."""
PROBED = "short requests to see whether the server is well"


class Exhausted(Exception):
    """A request failed on every try.

    Attributes:
        last: the last failure.
        seconds: that the tries took.
    """

    def __init__(self, last: str, seconds: float) -> None:
        super().__init__(last)
        self.last, self.seconds = last, seconds


class ServerClient:
    """Completes openings by a server."""

    device = None

    def __init__(self, settings: ServerGenerator) -> None:
        self.settings = settings
        self.key = ""
        if settings.key_from is not None:
            self.key = os.environ.get(settings.key_from, "").strip()  # a file of secrets ends with a line end
            if not self.key:
                raise ConfigError(
                    f"the environment variable {settings.key_from}, which is to have the key for {settings.url}, is "
                    "not set",
                    hint="Set it on all nodes; where Ray runs elsewhere, before Ray starts there.",
                )
            if not (self.key.isascii() and self.key.isprintable()):
                raise ConfigError(
                    f"the environment variable {settings.key_from}, which is to have the key for {settings.url}, has "
                    "characters that no header can carry, such as a line end in its midst",
                    hint="Set it to the key alone.",
                )

    def complete(self, requests: Sequence[Request]) -> Completions:
        """Complete openings.

        Raises:
            ConfigError: the server does not know the key or the model, or refuses all requests and a short one too.
            WorkError: a request failed on every try, and so does a short one; or the server is too busy.
        """
        counts: Counter[str] = Counter()
        answers = asyncio.run(self._all(requests, counts))
        problems = {i: answer.problem for i, answer in enumerate(answers) if answer.problem is not None}
        return Completions(
            texts=[
                self._behind(request.opening, answer.text) for request, answer in zip(requests, answers, strict=True)
            ],
            cut_off=np.array([answer.cut_off for answer in answers], np.bool_),
            tokens=np.array([answer.written for answer in answers], np.int32),
            problems=problems,
            prompt_tokens=sum(answer.read for answer in answers),
            counts=dict(counts),
        )

    def _behind(self, opening: str, text: str | None) -> str | None:
        """The completion, as it stands behind the opening. One to `user` may repeat it, or begin with no blank."""
        if text is None or self.settings.prefill:
            return text
        text = text.removeprefix(opening) if len(opening) >= LONG else text
        apart = not opening or not text or opening[-1].isspace() or text[0].isspace()
        return text if apart else f" {text}"

    async def _all(self, requests: Sequence[Request], counts: Counter[str]) -> list[Answer]:
        """All answers, in the order of the requests. The first error ends the others."""
        waiting = iter(enumerate(requests))
        answers: list[Answer] = [None] * len(requests)  # type: ignore[list-item]
        refusals: list[str] = []
        limits = aiohttp.ClientTimeout(total=self.settings.timeout, sock_connect=CONNECT_SECONDS)
        header = {"Authorization": f"Bearer {self.key}"} if self.key else {}

        async def work(session: aiohttp.ClientSession) -> None:
            for i, request in waiting:  # the workers share it
                try:
                    answers[i] = await self._answer(session, request, counts)
                except Refused as error:
                    refusals.append(str(error))
                    answers[i] = without_text(f"{REFUSED}: {error}")

        connector = aiohttp.TCPConnector(limit=self.settings.requests)
        async with aiohttp.ClientSession(connector=connector, timeout=limits, headers=header) as session:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.settings.requests, len(requests))):
                        group.create_task(work(session))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the others were cancelled, or failed alike
            if refusals and len(refusals) == len(requests):
                await self._check_settings(session, refusals, counts)
        return answers

    async def _check_settings(
        self, session: aiohttp.ClientSession, refusals: Sequence[str], counts: Counter[str]
    ) -> None:
        """See whether it is a matter of the documents that the server took none.

        Raises:
            ConfigError: it refuses a short text as well.
            WorkError: it fails.
        """
        counts[PROBED] += 1
        try:
            await self._persistent(session, PROBE, counts)
        except Exhausted as error:
            raise self._failed(error) from error
        except Refused as error:
            raise ConfigError(
                f"the server at {self.settings.url} refuses all of {counted(len(refusals), 'request')}, and a short "
                f"one without a prompt; the first: {refusals[0]}",
                hint="So it is no matter of a document: look at the model's name, max_tokens, extra=, and whether the "
                "server has this kind of request.",
            ) from error

    async def _answer(self, session: aiohttp.ClientSession, request: Request, counts: Counter[str]) -> Answer:
        """Ask until there is an answer. What fails on every try, while the server completes a short text, is a problem.

        Raises:
            Refused: the server does not take this request.
            WorkError: the server is not well.
        """
        try:
            return await self._persistent(session, request, counts)
        except Exhausted as error:
            exhausted = error
        counts[PROBED] += 1
        try:
            await self._ask(session, PROBE)  # once: later it may be well again, and then the document is not at fault
        except (Passing, Refused) as error:
            raise self._failed(exhausted) from error
        try:
            return await self._ask(session, request)  # it may have been ill until now
        except Passing as error:
            self._count(error, counts)
            if error.busy:
                raise self._failed(exhausted) from error
            tries = counted(self.settings.tries + 1, "time")
            return without_text(f"the server failed {tries} with it, and not with another: {self._safe(str(error))}")

    def _count(self, error: Passing, counts: Counter[str]) -> None:
        counts[TRIED_AGAIN + error.kind] += 1
        tally.count(tally.REQUESTS + "generation, " + error.kind)

    def _failed(self, error: Exhausted) -> WorkError:
        return WorkError(
            f"the server at {self.settings.url} failed {counted(self.settings.tries, 'time')} in "
            f"{duration(error.seconds)}: {error.last}",
            hint="What is committed stays: run again when the server is well. A lower requests= asks it "
            "for less at a time, a longer timeout= gives it more time.",
        )

    async def _persistent(self, session: aiohttp.ClientSession, request: Request, counts: Counter[str]) -> Answer:
        """Ask until there is an answer, or there were enough tries.

        Raises:
            Exhausted: there were.
            WorkError: there were, and the server is too busy.
            Refused: the server does not take this request.
        """
        started = time.monotonic()
        for tried in range(1, self.settings.tries + 1):
            try:
                return await self._ask(session, request)
            except Passing as error:
                self._count(error, counts)
                if tried == self.settings.tries:
                    last = Exhausted(self._safe(str(error)), time.monotonic() - started)
                    raise self._failed(last) if error.busy else last from error
                await asyncio.sleep(_wait(error, request, tried))
        raise AssertionError("a try returns or raises")

    async def _ask(self, session: aiohttp.ClientSession, request: Request) -> Answer:
        """Ask once.

        Raises:
            Passing: it failed, and may not the next time.
            Refused: the server does not take this request.
            ConfigError: it would take no request.
        """
        try:
            asked = body(self.settings, request)
            # A redirection would take the key to another server.
            async with session.post(self.settings.endpoint, json=asked, allow_redirects=False) as response:
                content = await read_whole(response.content)
                self._check_status(response.status, response.headers, content)
        except TimeoutError as error:
            raise Passing("time-out") from error
        except aiohttp.ClientPayloadError as error:
            raise Passing("answer cut off", str(error)) from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            raise Passing("no connection", str(error)) from error
        except aiohttp.ClientError as error:
            raise Passing("answer not HTTP", str(error)) from error
        return read_answer(content)

    def _check_status(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        if status == 200:
            return
        said = self._safe(f"status {status}, {message_of(content)}")
        if status == 429:
            raise Passing("too many requests", said, seconds_asked(headers), busy=True)
        if status >= 500 or status in (408, 409, 425):
            raise Passing(f"status {status}", said, seconds_asked(headers), busy=status in BUSY)
        if status in (400, 413, 422):
            raise Refused(said)
        if status == 402:
            raise ConfigError(
                f"the server at {self.settings.url} wants to be paid: {said}",
                hint="See to the account whose key this is. What is committed stays.",
            )
        if status in (401, 403):
            raise ConfigError(
                f"the server at {self.settings.url} does not let us in: {said}",
                hint="key_from= names the environment variable that has the key for it."
                if self.settings.key_from is None
                else f"Look at the key in {self.settings.key_from}.",
            )
        if status in (404, 405) or 300 <= status < 400:
            raise ConfigError(
                f"the server at {self.settings.url} has no {self.settings.endpoint}, or no model "
                f"{self.settings.model!r}: {said}",
                hint="url= ends with /v1 with most servers; GET on its /models lists the models.",
            )
        raise ConfigError(
            f"the server at {self.settings.url} answers what no completion is answered with: {said}",
            hint="Look at url=, and at what stands between this machine and the server.",
        )

    def _safe(self, said: str) -> str:
        """What a server said, without our key, should it repeat it."""
        text = said.replace(self.key, HIDDEN) if self.key else said
        return str(redacted(line(text)))[:300]


def body(settings: ServerGenerator, request: Request) -> dict[str, Any]:
    """What is sent: the fields that OpenAI's API has, `seed` too, and those of `extra`."""
    sampling = settings.sampling
    fields: dict[str, Any] = {
        "model": settings.model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": int(keyed_hash(sampling.seed, np.array([request.key], np.uint64))[0] >> np.uint64(33)),
        "stream": False,
    }
    if settings.user is None:
        prompt = f"{request.prompt}\n\n{request.opening}" if request.prompt else request.opening
        return {**fields, "prompt": prompt, **settings.extra}
    messages = [{"role": "system", "content": request.prompt}] if request.prompt else []
    if not settings.prefill:
        messages.append({"role": "user", "content": f"{settings.user}\n\n{request.opening}"})
        return {**fields, "messages": messages, **settings.extra}
    messages.append({"role": "user", "content": settings.user})
    if request.opening:
        messages.append({"role": "assistant", "content": request.opening})
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    return {**fields, "messages": messages, **settings.extra}


def _wait(error: Passing, request: Request, tried: int) -> float:
    """Seconds before the next try. Each request draws its own, so that they don't all come back at once."""
    share = 0.5 + 0.5 * float(uniform(keyed_hash(tried, np.array([request.key], np.uint64)))[0])
    own = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1)) * share
    return own if error.wait is None else max(own, min(error.wait, LONGEST_ASKED))
