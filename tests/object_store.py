"""An S3 server on loopback, over real HTTP, and a proxy before it that injects faults by a seed.

`s3()` gives a server with one bucket, `FaultProxy` stands between it and the code that is tested. Both live in threads
of this process; other processes reach them by `environment`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import select
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from loopback_server import Handler, LoopbackServer
from moto.server import ThreadedMotoServer

BUCKET = "bucket"
MIXED = ("503", "500", "429", "reset", "cut", "slow", "stalled", "lies", "lost")
"""The faults that `mixed` draws from, see `FaultProxy`."""


def mixed(share: float) -> dict[str, float]:
    """All faults, each equally often, which together meet this share of the requests."""
    return dict.fromkeys(MIXED, share / len(MIXED))


def environment(endpoint: str, secret: str = "not a secret") -> dict[str, str]:
    """What obstore reads to reach a server of these tests."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "an-access-key",
        "AWS_SECRET_ACCESS_KEY": secret,
    }


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """An S3 server with an empty bucket, `BUCKET`; gives its endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for path, method in (("moto-api/reset", "POST"), (BUCKET, "PUT")):  # its buckets are those of the process
            urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{path}", method=method)).close()
        yield endpoint
    finally:
        server.stop()


class FaultProxy(LoopbackServer):
    """Passes requests on to an HTTP server, and spoils a share of them.

    | fault | the server does it | the client sees |
    |---|---|---|
    | 503, 500, 429 | no | this status |
    | reset | no | the connection is reset |
    | cut | yes | half of the body or, of a response without one, of the headers; then the connection ends |
    | slow | yes | the response in five pieces, each after a pause |
    | stalled | yes | half as in "cut", then nothing |
    | short | yes | of a range, half of the bytes, in a response that says so |
    | lies | yes, if it writes | status 500; a read is passed on unspoiled |
    | lost | yes, if it writes | the connection is reset; a read is passed on unspoiled |

    Which requests are spoiled is a function of the seed and the number of the request.

    Attributes:
        shares: by fault, the share of requests that it meets. It may be changed at any time.
        only: methods of requests that are spoiled; None for all.
        most: how many requests are spoiled at most; None for no limit.
        ignored: headers, in lower case, of requests that are not passed on, as by a server that does not know them.
        stall, pause: seconds that a stalled answer stays silent, and between the pieces of a slow one.
        done: how many requests each fault has met.
    """

    def __init__(self, upstream: str, shares: Mapping[str, float] | None = None, seed: int = 0) -> None:
        super().__init__(_Handler)
        place = urlsplit(upstream)
        self.upstream = (str(place.hostname), int(place.port or 80))
        self.shares, self.seed = dict(shares or {}), seed
        self.only: tuple[str, ...] | None = None
        self.most: int | None = None
        self.ignored: tuple[str, ...] = ()
        self.stall, self.pause = 60.0, 0.1
        self.done: Counter[str] = Counter()
        self.requests = 0
        self._mutex = threading.Lock()

    def draw(self, method: str) -> str | None:
        """The fault of the next request; None if it is passed on."""
        with self._mutex:
            self.requests += 1
            if (self.only and method not in self.only) or self.most == sum(self.done.values()):
                return None
            digest = hashlib.sha256(f"{self.seed} {self.requests}".encode()).digest()
            at = int.from_bytes(digest[:8], "big") / (1 << 64)
            for fault, share in self.shares.items():
                at -= share
                if at < 0:
                    if fault in ("lies", "lost") and method in ("GET", "HEAD"):
                        return None
                    self.done[fault] += 1
                    return fault
            return None


class _Handler(Handler):
    server: FaultProxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.draw(self.command)
        if fault in ("503", "500", "429"):
            self._refuse(int(fault))
            return
        if fault == "reset":
            self.reset()
            return
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        try:
            passed = {name: value for name, value in self.headers.items() if name.lower() not in self.server.ignored}
            connection.request(self.command, self.path, body, passed)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if fault == "lies":
            self._refuse(500)
        elif fault == "lost":
            self.reset()
        else:
            self._answer(answer, data, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any

    def _answer(self, answer: http.client.HTTPResponse, data: bytes, fault: str | None) -> None:
        if fault == "short" and answer.status == 206:
            data = data[: len(data) // 2]
        passed = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding")]
        if answer.status == 206:
            first = int(str(answer.getheader("Content-Range")).split()[1].partition("-")[0])
            whole = str(answer.getheader("Content-Range")).rpartition("/")[2]
            passed = [(k, v) for k, v in passed if k.lower() not in ("content-length", "content-range")]
            passed += [("Content-Length", str(len(data)))]
            passed += [("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")]
        elif not any(k.lower() == "content-length" for k, _ in passed) and answer.status != 204:
            passed += [("Content-Length", str(len(data)))]
        head = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{k}: {v}" for k, v in passed)]
        start = "\r\n".join(head).encode() + b"\r\n\r\n"
        half = start + data[: len(data) // 2] if data else start[: len(start) // 2]
        with contextlib.suppress(OSError):  # the client has gone away
            if fault == "slow":
                whole_answer = start + data
                step = max(1, -(-len(whole_answer) // 5))
                for at in range(0, len(whole_answer), step):
                    self.wfile.write(whole_answer[at : at + step])
                    time.sleep(self.server.pause)
            elif fault in ("cut", "stalled"):
                self.wfile.write(half)
                if fault == "stalled":  # until the client gives up
                    select.select([self.connection], [], [], self.server.stall)
                self.close_connection = True
            else:
                self.wfile.write(start + data)

    def _refuse(self, status: int) -> None:
        code = {503: "SlowDown", 429: "TooManyRequests", 500: "InternalError"}[status]
        data = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        head = f"HTTP/1.1 {status} {code}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        with contextlib.suppress(OSError):
            self.wfile.write(head + (data if self.command != "HEAD" else b""))  # at once: pieces would wait for an ACK
