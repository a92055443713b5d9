"""A server on loopback that speaks OpenAI's API, and misbehaves as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from loopback_server import Handler, LoopbackServer


def completion(asked: dict[str, Any]) -> str:
    """What it writes, a function of what it was asked."""
    if "prompt" in asked:
        return f" Written after {len(asked['prompt'])} characters, with seed {asked['seed']}."
    return f" Said after {sum(len(message['content']) for message in asked['messages'])} characters."


class GenerationServer(LoopbackServer):
    """Answers requests, but for those that a fault is due for: the first fault meets the first request, and so on.

    | fault | what the client sees |
    |---|---|
    | "ok" | an answer |
    | 500, 429, 400, ... | this status, with a message |
    | (429, "2") | this status, with Retry-After: 2 |
    | "reset" | the connection is reset |
    | "pieces" | an answer in two pieces, 50 ms apart |
    | "large" | an answer with a text of 400,000 characters |
    | "cut" | half of an answer, then the connection ends |
    | "stall" | nothing, for `stall` seconds |
    | "half" | status 200, with half of an answer's JSON |
    | a dict | an answer whose choice has these fields |
    | bytes | an answer with this content |

    Attributes:
        faults: those that are due; a function gives that of a request.
        asked: the requests that came, in order: path, headers and body.
        most: how many were answered at one time.
    """

    def __init__(self, faults: Sequence[Any] | Callable[[dict[str, Any]], Any] = (), *, pause: float = 0.0) -> None:
        super().__init__(_Handler)
        self.faults = faults if callable(faults) else list(faults)
        self.pause, self.stall = pause, 30.0
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.now = self.most = 0
        self.mutex = threading.Lock()

    @property
    def url(self) -> str:
        """Its address, as a generator takes it."""
        return f"{self.address}/v1"

    def due(self, asked: dict[str, Any]) -> Any:
        """The fault that meets a request."""
        if callable(self.faults):
            return self.faults(asked)
        with self.mutex:
            return self.faults.pop(0) if self.faults else "ok"


class _Handler(Handler):
    server: GenerationServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.mutex:
            self.server.asked.append((self.path, dict(self.headers), asked))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            time.sleep(self.server.pause)
            self._answer(asked, self.server.due(asked))
        finally:
            with self.server.mutex:
                self.server.now -= 1

    def _answer(self, asked: dict[str, Any], fault: Any) -> None:
        text = "x" * 400_000 if fault == "large" else completion(asked)
        said = {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
        choice = {"index": 0, "finish_reason": "stop", **said, **(fault if isinstance(fault, dict) else {})}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        whole = json.dumps({"id": "1", "model": asked["model"], "choices": [choice], "usage": usage}).encode()
        status, wait = fault if isinstance(fault, tuple) else (fault, None)
        if isinstance(status, int):
            key = self.headers.get("Authorization", "")
            return self._send(status, json.dumps({"error": {"message": f"no, says {status} {key}"}}).encode(), wait)
        if fault == "reset":
            return self.reset()
        if fault == "stall":
            self.close_connection = True
            return time.sleep(self.server.stall)
        if isinstance(fault, bytes):
            return self._send(200, fault)
        if fault == "pieces":
            return self._send(200, whole, pieces=True)
        if fault == "cut":
            return self._send(200, whole, cut=True)
        return self._send(200, whole[: len(whole) // 2] if fault == "half" else whole)

    def _send(
        self, status: int, content: bytes, wait: str | None = None, *, cut: bool = False, pieces: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if pieces:
            time.sleep(0.05)
        if not cut:
            self.wfile.write(content[half:])
        if cut:
            self.close_connection = True
