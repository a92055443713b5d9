"""Credentials in text: they are cut out of all that is stored or shown, and refused where a place is named.

A pipeline's source, a parameter or the message of a library may hold one: in a URL, as a literal that is assigned to a
name such as `api_key`, or as a token whose kind is known by its first letters. What looks like one is replaced by
`***`, so that it is seen that something was there. A secret that looks like any other text is not found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "***"

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>[^\s\"'<>`]+)", re.IGNORECASE)
# All up to the last @ before the path. A password with a slash in it, which is no number of a port, is one too.
_USER = re.compile(r"[^/?#]*@|[^/?#:@]+:(?!\d{1,5}[/?#])[^?#]*@")
_QUERY = re.compile(r"(?<=[?&])([^/&=#]+)=([^&#]+)")
_FIELD = re.compile(r"\{[^{}]*\}(:\{[^{}]*\})?")  # of an f-string
_NO_USERS = ("s3", "s3a", "gs", "az", "azure", "adl", "http", "https")  # of these, a user alone is a key or a token
_CONTAINER = ("abfs", "abfss", "wasb", "wasbs")  # before the @ is the container

_NAME = (
    r"\w*(?:secret|passw(?:or)?d|passphrase|credential|private_?key|access_?key|api_?key|account_?key|sas_?token|"
    r"(?:hf|hub|auth|access|session|security|bearer|refresh|github)_?token)\w*"
)
_ASSIGNED = re.compile(
    rf"(\b{_NAME}[\"']?\]?\s*(?::\s*[\w.\[\] |]+)?[=:]\s*[rbu]?(?P<quote>[\"']))(?:(?!(?P=quote)).)+(?P=quote)",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~-]{8,}=*")

_VARIABLE = re.compile(
    r"SECRET|PASSW|CREDENTIAL|PRIVATE|ACCESS_?KEY|(^|_)(TOKEN|SAS|KEY|PAT)(_|$)",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"(^|&)(sig|x-(amz|goog)-(signature|credential|security-token)|token)=", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """A value without credentials: text, or lists and mappings of values; others are returned as they are.

    Of a URL, the user and password and the values of the query are cut out; but not the fields of an f-string, which
    are names of the code. The value of a key such as `api_key` is cut out whole.

    >>> redacted("https://me:secret@host/a?sig=secret and more")  # pragma: allowlist secret
    'https://***@host/a?sig=*** and more'
    >>> redacted({"hf_token": "abc", "corpus": "s3://bucket/c"})
    {'hf_token': '***', 'corpus': 's3://bucket/c'}
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(item, str) and item and _named(name) else redacted(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def in_url(url: str) -> bool:
    """Whether a URL has a credential in it: a password, a user where a store knows none, or a signed query."""
    if "://" not in url:
        return False
    scheme, _, rest = url.partition("://")
    user = _USER.match(rest)
    if user is not None and (":" in user[0] or scheme.lower() in _NO_USERS):
        return True
    return _SIGNED.search(urlsplit(url).query) is not None


def names_one(variable: str) -> bool:
    """Whether an environment variable holds a credential, by its name."""
    return _VARIABLE.search(variable) is not None


def _named(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(_NAME, name, re.IGNORECASE) is not None


def _text(text: str) -> str:
    if "://" in text:
        text = _URL.sub(_url, text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}\g<quote>", text)
    return _HEADER.sub(rf"\1 {HIDDEN}", _TOKEN.sub(HIDDEN, text))


def _url(found: re.Match[str]) -> str:
    rest = found["rest"]
    user = _USER.match(rest)
    if user is not None:
        named = user[0][:-1]
        container = found["scheme"].lower() in _CONTAINER and ":" not in named
        if not container and not _FIELD.fullmatch(named):
            rest = f"{HIDDEN}@{rest[user.end() :]}"
    rest = _QUERY.sub(lambda item: item[0] if _FIELD.fullmatch(item[2]) else f"{item[1]}={HIDDEN}", rest)
    return f"{found['scheme']}://{rest}"
