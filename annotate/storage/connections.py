"""Opens object stores: time limits of a request, what the environment sets, and what it has to set.

An object store is reached by what the environment of each process says, and by nothing else: no credential is an
argument, a setting or a file of ours, so none can get into a log, a manifest or a fingerprint. `docs/object-stores.md`
lists the variables.

A request that failed is tried again by `retries`, not by obstore, so that each try is counted once, and the waits of
two layers don't multiply. Only the requests of an upload in pieces are tried again by obstore: one of them that failed
would cost the whole upload.
"""

from __future__ import annotations

import functools
import os
import re
from datetime import timedelta
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from annotate.storage import hub

SILENT_SECONDS = 30.0
"""A request fails that has had no answer, or no more of its answer, for so long."""
REQUEST_SECONDS = 600.0
"""A request fails that has taken so long, even if bytes keep coming."""
CONNECT_SECONDS = 10.0
WHOLE_BYTES = 16 << 20
"""More bytes than these are put in pieces, so that no request has to send much within `SILENT_SECONDS`."""
PIECE_BYTES, PIECES_AT_ONCE = 8 << 20, 4

_ONCE: Any = {"max_retries": 0}
_PIECES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

_PREFIXES = {
    "s3": "AWS",
    "s3a": "AWS",
    "gs": "GOOGLE",
    "az": "AZURE",
    "azure": "AZURE",
    "abfs": "AZURE",
    "abfss": "AZURE",
    "adl": "AZURE",
}
_SETTINGS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "default_content_type",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
)
"""Settings of obstore's client that the environment may hold, each after the prefix of its store: AWS_ALLOW_HTTP."""

_CREDENTIALS = {
    "AWS": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of a role, such as AWS_WEB_IDENTITY_TOKEN_FILE "
    "(files in ~/.aws are not read)",
    "GOOGLE": "GOOGLE_APPLICATION_CREDENTIALS, the path of a key file",
    "AZURE": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or those of an identity",
}


_ASKED_FOR_A_ROLE = re.compile(r"/latest/(api/token|meta-data/)|/computeMetadata/|/metadata/identity/")
"""Addresses of a machine's own metadata service, which clients ask for a role's key if they have none."""


def opened(url: str, *, pieces: bool = False) -> Any:
    """The store of a directory; a local directory is made if it does not exist.

    Args:
        url: a local path, or a URL.
        pieces: whether it is for an upload in pieces, whose requests obstore itself tries again.
    """
    return _opened(url, pieces and url.partition("://")[0] in _PREFIXES)  # memory:// has its objects in one store


@functools.lru_cache(maxsize=128)
def _opened(url: str, pieces: bool) -> Any:  # noqa: FBT001 # one way to call it, so one store in the cache
    if url.startswith(hub.SCHEME):
        return hub.Hub(url.removeprefix(hub.SCHEME))
    if is_local(url):
        return LocalStore(url.removeprefix("file://"), mkdir=True)
    return from_url(url, client_options=_client(url), retry_config=_PIECES if pieces else _ONCE)


def calls(store: Any) -> Any:
    """The functions that take this store: those of obstore; of the hub, ours of the same names."""
    return hub if isinstance(store, hub.Hub) else obstore


def forget() -> None:
    """Open all stores anew, as the environment now says; for tests."""
    _opened.cache_clear()


def is_local(url: str) -> bool:
    """Whether a directory is on a local disk."""
    return "://" not in url or url.startswith("file://")


def _client(url: str) -> Any:
    """Our time limits, and what the environment sets: obstore does not read it for the client when it is given some."""
    ours = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=SILENT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    prefix = _prefix(url)
    said = {name: os.environ.get(f"{prefix}_{name.upper()}") for name in _SETTINGS}
    return {**ours, **{name: value for name, value in said.items() if value is not None}}


def _prefix(url: str) -> str:
    return _PREFIXES.get(url.partition("://")[0], "AWS")


def missing(url: str, reason: str) -> tuple[str, str] | None:
    """What the environment lacks, if that is why a request failed: what is wrong, and what to set.

    Args:
        url: of the directory.
        reason: the text of obstore's error.
    """
    prefix = _prefix(url)
    if "BadScheme" in reason:
        return (
            "its server is reached by plain HTTP, which is not allowed",
            f"Set {prefix}_ALLOW_HTTP=true in the environment of this process and of Ray's nodes, if the network "
            "between them is yours: data and requests are sent in the clear. Else give an address with https://.",
        )
    if _ASKED_FOR_A_ROLE.search(reason) or "MissingAccount" in reason or "MissingCredentials" in reason:
        return (
            "no credentials were found",
            f"Set, in the environment of this process and of Ray's nodes, {_CREDENTIALS[prefix]}. See "
            "docs/object-stores.md.",
        )
    if "Unauthenticated" in reason or "InvalidAccessKeyId" in reason or "SignatureDoesNotMatch" in reason:
        return (
            "the store does not accept the credentials",
            f"Check, in the environment of this process and of Ray's nodes, {_CREDENTIALS[prefix]}. See "
            "docs/object-stores.md.",
        )
    return None
