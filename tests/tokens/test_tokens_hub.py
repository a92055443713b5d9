"""A tokenizer of the hub, in a cache as the hub's own library lays it out: a revision means one commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import cloudpickle
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from annotate import Corpus, Split
from annotate.errors import ConfigError
from annotate.stages.schedule import Schedule, ScheduleDocuments
from annotate.stages.shared.selection import Selection
from annotate.tokens import load_tokenizer, pin_tokenizer

OLD, NEW = "0123456789" * 4, "abcdef0123" * 4


def commit(cache: Path, number: str, *words: str) -> None:
    """Put a tokenizer of some words into the cache, as what the main branch is now."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(("?", *words))}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = cache / "models--some--words"
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?").save_pretrained(folder / "snapshots" / number)
    (folder / "snapshots" / number / "config.json").write_text("{}")
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(number)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit(tmp_path, OLD, "one", "two")
    return tmp_path


def test_what_the_driver_saw_is_what_workers_load(cache: Path) -> None:
    name, revision = pin_tokenizer("some/words")
    assert (name, revision) == ("some/words", OLD)
    commit(cache, NEW, "two", "one")
    assert load_tokenizer(name, revision=revision).convert_tokens_to_ids("one") == 1
    assert load_tokenizer(name, revision=NEW).convert_tokens_to_ids("one") == 2
    assert pin_tokenizer("some/words", revision="main") == ("some/words", NEW)
    assert pin_tokenizer("some/words", revision=OLD) == ("some/words", OLD)


def test_a_stage_holds_the_commit(cache: Path) -> None:
    selection = Selection(Split(Corpus("corpus")), None, None)
    stage = ScheduleDocuments(selection, (), Schedule(tokenizer="some/words"))
    recipe = stage.recipe
    commit(cache, NEW, "two", "one", "three")
    sent = cloudpickle.loads(cloudpickle.dumps(stage))
    assert (sent.asked.tokenizer, sent.asked.revision) == ("some/words", OLD) and sent._loaded[1] == sent._expected
    assert ScheduleDocuments(selection, (), Schedule(tokenizer="some/words")).recipe != recipe


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert pin_tokenizer("mine") == (str(tmp_path / "mine"), None)
    assert pin_tokenizer("gone.json") == ("gone.json", None)  # loading it tells


def test_what_is_not_there_is_named(cache: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer 'other/words' at revision 'v2' cannot be loaded"):
        pin_tokenizer("other/words", revision="v2")
