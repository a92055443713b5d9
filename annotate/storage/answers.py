"""What messages tell of a failed request: its status and a code, and nothing else of a server's answer.

An answer may repeat a token that it did not accept, whatever its form: XML, JSON, a page of a proxy, plain text.
"""

from __future__ import annotations

import re

from annotate.credentials import redacted

MOST = 300
"""Characters of a message that are kept."""

# The texts of obstore's errors, behind which the body of an answer stands.
_BODY_FOLLOWS = re.compile(r"non-2xx status code: \d{3}(?: [A-Z][\w' -]*)?|Server returned error response")
_BODY = re.compile(r"[:\s]*[<{\[].*|\bbody: .*", re.DOTALL)
_CODES = (
    re.compile(r"<Code>([A-Za-z]{3,60})</Code>"),
    re.compile(r'"(?:code|status|error)"\s*:\s*"([A-Za-z_]{3,60})"'),
)


def failure(error: Exception, *, local: bool = False) -> str:
    """What an error says, in a line.

    Args:
        error: of obstore, or of the client of the hub.
        local: whether it is of a local disk, whose errors have no answer in them.
    """
    text = str(error).strip()
    line = text.partition("\n")[0]
    notes = list(getattr(error, "__notes__", ()))
    if not local:
        if (follows := _BODY_FOLLOWS.search(line)) is not None:
            codes = [found[1] for code in _CODES if (found := code.search(text, follows.end())) is not None]
            line, notes = line[: follows.end()], codes[:1] + notes
        line = _BODY.sub("", line)
    if len(line) > MOST:
        line = line[:MOST] + "..."
    return redacted(line + (f" ({', '.join(notes)})" if notes else ""))
