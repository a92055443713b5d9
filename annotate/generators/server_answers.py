"""What a server answers that speaks OpenAI's API: a completion, a failure that may pass, or a refusal."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

MOST_BYTES = 64 << 20
"""Of an answer: what is longer is no completion."""
MOST_TOKENS = 2**31 - 1
"""That a server may count for one request: what the column of a document holds."""

REFUSED = "the server refused to complete it"
NO_UNICODE = "the server gave a text that is no Unicode: it has half of a surrogate pair"


class Passing(Exception):
    """A failure that may pass.

    Attributes:
        kind: of failure, a few words.
        wait: seconds that the server asks to wait; None if it does not.
        busy: whether the server says that it has too much to do, which is no matter of the request.
    """

    def __init__(self, kind: str, said: str = "", wait: float | None = None, *, busy: bool = False) -> None:
        super().__init__(f"{kind}{f': {said}' if said else ''}")
        self.kind, self.wait, self.busy = kind, wait, busy


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
        read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        if not (0 <= read <= MOST_TOKENS and 0 <= written <= MOST_TOKENS):
            raise ValueError(f"usage {usage}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Passing("half an answer", f"{type(error).__name__} in {content[:80]!r}") from error
    if refusal or ended == "content_filter":
        said = f": {line(str(refusal))[:200]}" if refusal else ", by its content filter"
        return without_text(REFUSED + said, read)
    if text is None and ended is not None:
        text = ""  # it is at its end, or at max_tokens, and has written nothing that is text
    if not isinstance(text, str) or ended is None:
        raise Passing("half an answer", f"finish_reason {ended!r}, text of {type(text).__name__}")
    if not _is_unicode(text):
        return without_text(NO_UNICODE, read)
    return Answer(text, None, cut_off=ended == "length", read=read, written=written)


def without_text(problem: str, read: int = 0) -> Answer:
    """An answer that has a problem in place of a completion."""
    return Answer(None, problem, cut_off=False, read=read, written=0)


async def read_whole(stream: aiohttp.StreamReader) -> bytes:
    """All of an answer, in however many pieces it comes.

    Raises:
        Refused: it is too long.
    """
    content = bytearray()
    async for piece in stream.iter_any():
        content += piece
        if len(content) > MOST_BYTES:
            raise Refused(f"its answer has more than {MOST_BYTES:,} bytes")
    return bytes(content)


def _is_unicode(text: str) -> bool:
    """Whether it can be written: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def line(said: str) -> str:
    """What a server said, in one line, with ? for what is no Unicode."""
    return " ".join(said.encode("utf-8", "replace").decode().split())


def seconds_asked(headers: Mapping[str, str]) -> float | None:
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


def message_of(content: bytes) -> str:
    """What an error says, in the forms that servers have."""
    try:
        found = json.loads(content)
        error = found.get("error", found)
        return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
    except (ValueError, AttributeError, RecursionError):
        return content[:200].decode("utf-8", "replace")
