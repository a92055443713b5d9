"""An Azure blob server on loopback, Azurite, over real HTTP: `azure()`. Azurite is Microsoft's, and runs on Node.js."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

CONTAINER = "container"
ACCOUNT = "devstoreaccount1"
# Azurite's own, which is the same everywhere and is printed in its manual.
KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ"  # pragma: allowlist secret
    "6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # pragma: allowlist secret
)


def command() -> str | None:
    """Where Azurite is: in the folder that ANNOTATE_AZURITE names, as `make azure` does, or on the path."""
    folder = os.environ.get("ANNOTATE_AZURITE", "")
    return shutil.which("azurite-blob", path=f"{folder}/node_modules/.bin") or shutil.which("azurite-blob")


@contextlib.contextmanager
def azure(folder: Path) -> Iterator[dict[str, str]]:
    """A server with an empty container, `CONTAINER`; gives what obstore reads to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(command()), "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck", "--silent"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < until, "Azurite did not start"
            time.sleep(0.1)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _create_container(endpoint)
        yield {
            "AZURE_STORAGE_ENDPOINT": endpoint,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_ALLOW_HTTP": "true",
        }
    finally:
        process.kill()
        process.wait()


def _create_container(endpoint: str) -> None:
    """Create the container by a signed request, as Azure's manual of "Shared Key" says; obstore creates none."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    signed = "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}", "restype:container"])
    digest = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(
        f"{endpoint}/{CONTAINER}?restype=container",
        method="PUT",
        headers={**headers, "Authorization": f"SharedKey {ACCOUNT}:{digest}", "Content-Length": "0"},
    )
    urllib.request.urlopen(request).close()
