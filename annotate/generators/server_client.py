"""Sends requests to a server that speaks OpenAI's API: several at a time, again where that may help, and counted."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from annotate import tally
from annotate.amounts import counted, duration
from annotate.credentials import HIDDEN, redacted
from annotate.errors import ConfigError, WorkError
from annotate.generators.base import Completions, Request
from annotate.randomness import keyed_hash, uniform

if TYPE_CHECKING:
    from annotate.generators.server_generator import ServerGenerator

FIRST_WAIT, LONGEST_WAIT, LONGEST_ASKED = 0.5, 60.0, 600.0
"""Seconds. Waits double; one that the server asks for is kept, up to ten minutes."""
CONNECT_SECONDS = 30.0
MOST_BYTES = 64 << 20
"""Of an answer: what is longer is no completion."""
FEW = 3
"""If so many requests or more are refused, and none is answered, it is not the documents that are at fault."""

LONG = 20
"""Characters of an opening that no answer begins with by chance."""

TRIED_AGAIN = "requests tried again: "
"""The names of the counts of failures begin so; the kind of failure stands after it."""

REFUSED = "the server refused to complete it"


class Passing(Exception):
    """A failure that may pass.

    Attributes:
        kind: of failure, a few words.
        wait: seconds that the server asks to wait; None if it does not.
    """

    def __init__(self, kind: str, said: str = "", wait: float | None = None) -> None:
        super().__init__(f"{kind}{f': {said}' if said else ''}")
        self.kind, self.wait = kind, wait


class Refused(Exception):
    """The server does not take a request as it is."""


@dataclass(frozen=True)
class Answer:
    """One completion.

    Attributes:
        text: the completion; None if the server refused to write one.
        problem: why, then.
        cut_off: whether it ended because it had `max_tokens`.
        read: tokens that were read, as the server counts them; 0 if it does not say.
        written: the same of the completion.
    """

    text: str | None
    problem: str | None
    cut_off: bool
    read: int
    written: int


class ServerClient:
    """Completes openings by a server."""

    device = None

    def __init__(self, settings: ServerGenerator) -> None:
        self.settings = settings
        self.key = ""
        if settings.key_from is not None:
            self.key = os.environ.get(settings.key_from, "")
            if not self.key:
                raise ConfigError(
                    f"the environment variable {settings.key_from}, which is to have the key for {settings.url}, is "
                    "not set",
                    hint="Set it on all nodes; where Ray runs elsewhere, before Ray starts there.",
                )

    def complete(self, requests: Sequence[Request]) -> Completions:
        """Complete openings.

        Raises:
            ConfigError: the server does not know the key or the model, or refuses all requests.
            WorkError: a request failed on every try.
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
                    answers[i] = await self._persistent(session, request, counts)
                except Refused as error:
                    refusals.append(str(error))
                    answers[i] = Answer(None, f"{REFUSED}: {error}", cut_off=False, read=0, written=0)

        connector = aiohttp.TCPConnector(limit=self.settings.requests)
        async with aiohttp.ClientSession(connector=connector, timeout=limits, headers=header) as session:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.settings.requests, len(requests))):
                        group.create_task(work(session))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the others were cancelled, or failed alike
        if len(refusals) == len(requests) >= FEW:
            raise ConfigError(
                f"the server at {self.settings.url} refuses all of {counted(len(requests), 'request')}; the first: "
                f"{refusals[0]}",
                hint="So it is no matter of a document: look at the model's name, max_tokens, extra=, and whether the "
                "server has this kind of request.",
            )
        return answers

    async def _persistent(self, session: aiohttp.ClientSession, request: Request, counts: Counter[str]) -> Answer:
        """Ask until there is an answer, or there were enough tries."""
        started = time.monotonic()
        for tried in range(1, self.settings.tries + 1):
            try:
                return await self._ask(session, request)
            except Passing as error:
                counts[TRIED_AGAIN + error.kind] += 1
                tally.count(tally.REQUESTS + "generation, " + error.kind)
                if tried == self.settings.tries:
                    raise WorkError(
                        f"the server at {self.settings.url} failed {counted(tried, 'time')} in "
                        f"{duration(time.monotonic() - started)}: {self._safe(str(error))}",
                        hint="What is committed stays: run again when the server is well. A lower requests= asks it "
                        "for less at a time, a longer timeout= gives it more time.",
                    ) from error
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
                content = await response.content.read(MOST_BYTES)
                if not response.content.at_eof() and await response.content.read(1):
                    raise Refused(f"its answer has more than {MOST_BYTES:,} bytes")
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
        said = self._safe(f"status {status}, {_message(content)}")
        if status == 429:
            raise Passing("too many requests", said, _asked(headers))
        if status >= 500 or status in (408, 409, 425):
            raise Passing(f"status {status}", said, _asked(headers))
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
        raise Refused(said)

    def _safe(self, said: str) -> str:
        """What a server said, without our key, should it repeat it."""
        text = said.replace(self.key, HIDDEN) if self.key else said
        return str(redacted(" ".join(text.split())))[:300]


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


def read_answer(content: bytes) -> Answer:
    """Read what a server answered.

    Raises:
        Passing: it is no whole answer.
    """
    try:
        whole = json.loads(content)
        choice = whole["choices"][0]
        ended = choice.get("finish_reason")
        message = choice.get("message")
        text = choice["text"] if message is None else message.get("content")
        refusal = None if message is None else message.get("refusal")
        usage = whole.get("usage") or {}
        read, written = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Passing("half an answer", f"{type(error).__name__} in {content[:80]!r}") from error
    if refusal or ended == "content_filter":
        said = f": {' '.join(str(refusal).split())[:200]}" if refusal else ", by its content filter"
        return Answer(None, REFUSED + said, cut_off=False, read=read, written=0)
    if not isinstance(text, str) or ended is None:
        raise Passing("half an answer", f"finish_reason {ended!r}, text of {type(text).__name__}")
    return Answer(text, None, cut_off=ended == "length", read=read, written=written)


def _wait(error: Passing, request: Request, tried: int) -> float:
    """Seconds before the next try. Each request draws its own, so that they don't all come back at once."""
    share = 0.5 + 0.5 * float(uniform(keyed_hash(tried, np.array([request.key], np.uint64)))[0])
    own = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tried - 1)) * share
    return own if error.wait is None else max(own, min(error.wait, LONGEST_ASKED))


def _asked(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait (RFC 9110, section 10.2.3): as a number, or as a date."""
    said = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())


def _message(content: bytes) -> str:
    """What an error says, in the forms that servers have."""
    try:
        found = json.loads(content)
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
    except (ValueError, AttributeError):
        return content[:200].decode("utf-8", "replace")
