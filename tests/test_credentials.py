"""Credentials are cut out of text, and nothing else is."""

import pickle

import pytest

from annotate.credentials import in_url, names_one, redacted
from annotate.errors import ConfigError
from annotate.storage.store import Directory

MARKED = "marked-4f1d7c"
TOKEN = f"hf_{'a1B2' * 8}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"s3://key:{MARKED}@bucket/corpus/*.parquet", "s3://***@bucket/corpus/*.parquet"),  # pragma: allowlist secret
        (f"https://host/a?format=json&sig={MARKED} and more", "https://host/a?format=***&sig=*** and more"),
        (f"http://key:mar@ked{MARKED}@host/x", "http://***@host/x"),  # pragma: allowlist secret
        (f"s3://key:sla/sh{MARKED}@bucket/x", "s3://***@bucket/x"),
        (f"https://{MARKED}@host/x", "https://***@host/x"),
        (f"read('https://me:{MARKED}@host/feed', 3)", "read('https://***@host/feed', 3)"),
        (f'url = "https://host/x?key={MARKED}"  # so', 'url = "https://host/x?key=***"  # so'),
        (f'API_KEY: str = "{MARKED}"', 'API_KEY: str = "***"'),
        (f"connect(password='{MARKED}', retries=3)", "connect(password='***', retries=3)"),
        (f'os.environ["HF_TOKEN"] = "{MARKED}"', 'os.environ["HF_TOKEN"] = "***"'),
        (f'{{"client_secret": "{MARKED}"}}', '{"client_secret": "***"}'),
        (f"login('{TOKEN}')", "login('***')"),
        (f"Authorization: Bearer {MARKED}", "Authorization: Bearer ***"),
        (f"GET ftp://a:{MARKED}@h/x and https://b:{MARKED}@h/y", "GET ftp://***@h/x and https://***@h/y"),
    ],
)
def test_what_looks_like_a_credential_is_cut_out(text, shown):
    assert redacted(text) == shown and MARKED not in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/part-00?.parquet",
        "what? not=a URL",
        "http://host:8265/a@b",
        "abfss://container@account.dfs.core.windows.net/corpus",
        "hf://datasets/org/name@v1/data",
        'f"https://{user}:{password}@host/x?token={token}"',
        'Tag(token="<nice>", key="label", pad_token="<pad>")',
        "password = os.environ['DB_PASSWORD']",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the environment.",
    ],
)
def test_other_text_stays(text):
    assert redacted(text) == text


def test_values_within_values_and_by_their_names():
    told = {"feeds": [f"az://c/x?sig={MARKED}"], "hf_token": MARKED, "nested": {"n": 1, "none": None, "rate": 0.5}}
    assert redacted(told) == {
        "feeds": ["az://c/x?sig=***"],
        "hf_token": "***",
        "nested": {"n": 1, "none": None, "rate": 0.5},
    }


def test_errors_have_none_on_their_way_from_a_worker_either():
    error = ConfigError(f"no answer of https://me:{MARKED}@host/x", hint=f"Ask https://me:{MARKED}@host.")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == "no answer of https://***@host/x\n\nHint: Ask https://***@host."


@pytest.mark.parametrize(
    ("url", "has"),
    [
        (f"s3://key:{MARKED}@bucket/x", True),
        ("s3://key@bucket/x", True),
        (f"https://host/c?sig={MARKED}", True),
        (f"https://host/c?a=1&X-Amz-Signature={MARKED}", True),
        (f"https://host/c?X-Goog-Credential={MARKED}", True),
        ("abfss://container@account.dfs.core.windows.net/x", False),
        ("hf://datasets/org/name@v1", False),
        ("s3://bucket/part-?.parquet", False),
        ("http://host:8265", False),
        ("/data/me@home:x", False),
    ],
)
def test_a_place_is_refused_that_has_one(url, has):
    assert in_url(url) is has
    if has:
        with pytest.raises(ConfigError, match="a URL with a credential in it") as refused:
            Directory.at(url)
        assert MARKED not in str(refused.value) and "environment" in refused.value.hint
    else:
        Directory.at(url)


def test_variables_are_judged_by_their_names():
    assert names_one("HF_TOKEN") and names_one("AZURE_STORAGE_ACCOUNT_KEY") and not names_one("TOKENIZERS_PARALLELISM")
