"""A tokenizer is its `tokenizer.json`, or it is refused; ids that nothing has are no tag's trap."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from token_families import CL100K, TEXT, family
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from annotate.errors import ConfigError
from annotate.text.splitting import Splitter
from annotate.tokenizer_file import PROBES, load_file, load_held_to_file
from annotate.tokens import TextTokenizer, add_tags, held_to_file, load_tokenizer, vocabulary_size


def split_by_itself() -> Tokenizer:
    """A byte-level BPE with the split expression of tiktoken, and merges: no class of Transformers has it."""
    made = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(CL100K), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([*TEXT, "In 2024 2024 2024 202 202"], trainer)
    return made


def saved(folder: Path, of_class: str, **settings: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=split_by_itself(), eos_token="<|endoftext|>").save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": of_class, **settings}))
    return folder


def test_the_tokens_are_those_of_the_file_whatever_its_class_makes_of_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, "GPT2Tokenizer")
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    classed = AutoTokenizer.from_pretrained(folder)
    assert any(classed.tokenize(text) != file.encode(text).tokens for text in PROBES)
    loaded = held_to_file(str(folder))
    for text in (*TEXT, *PROBES):
        assert loaded.tokenizer(text)["input_ids"] == file.encode(text).ids
    assert loaded.text_too
    assert loaded.rewritten is not None
    assert "GPT2Tokenizer, its class, gives other tokens than its tokenizer.json: 'In 2024" in loaded.rewritten
    assert loaded.tokenizer.eos_token_id == 0
    loaded.tokenizer.save_pretrained(tmp_path / "again")
    assert AutoTokenizer.from_pretrained(tmp_path / "again").tokenize(PROBES[2]) == file.encode(PROBES[2]).tokens


def test_where_class_and_file_agree_nothing_is_said(tmp_path: Path) -> None:
    assert held_to_file(str(saved(tmp_path, "PreTrainedTokenizerFast"))).rewritten is None


def test_special_tokens_that_a_configuration_names_are_kept(tmp_path: Path) -> None:
    """Of the file are the tokens of text; a token for padding that only the configuration has is added, as ever."""
    loaded = load_held_to_file("it", str(saved(tmp_path, "GPT2Tokenizer", pad_token="<pad>")))
    assert loaded.tokenizer.pad_token_id == vocabulary_size(split_by_itself())


@pytest.mark.parametrize(
    "files", [["spm.model"], ["spiece.model"], ["tokenizer.model"], ["vocab.json"], ["cl100k_base.tiktoken"]]
)
def test_a_tokenizer_in_another_form_is_named_with_what_to_do(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    said = f"there is no tokenizer.json in {tmp_path}, only a slow tokenizer ({', '.join(files)})"
    uses = (
        lambda: load_tokenizer(str(tmp_path)),
        lambda: Splitter(by="tokens", tokenizer=str(tmp_path)).split(pa.array(["a text"])),
    )
    for use in uses:
        with pytest.raises(ConfigError, match=r"there is no tokenizer\.json") as caught:
            use()
        assert said in str(caught.value)
        assert "pip install sentencepiece" in str(caught.value.hint)


def test_a_vocabulary_of_words_alone_is_a_form_that_its_class_reads(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert load_tokenizer(str(tmp_path)).tokenize("The dog") == ["the", "dog"]


class Panic(BaseException):
    """As the tokenizers library panics."""


Panic.__name__ = "PanicException"


@pytest.mark.parametrize("error", [AttributeError("no such part"), TypeError("what?"), Panic("index out of range")])
def test_whatever_transformers_raises_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    saved(tmp_path, "PreTrainedTokenizerFast")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ConfigError, match=f"cannot be loaded: {error}"):
        load_tokenizer(str(tmp_path))


# Ids.


def holed(name: str, *, at: list[int], added: int = 0) -> bytes:
    """A tokenizer of a family in which the words with these ids have others: as many holes; added tokens behind."""
    made = json.loads(family(name).backend_tokenizer.to_str())
    words = made["model"]["vocab"]
    made["added_tokens"] = [token for token in made["added_tokens"] if token["id"] < 4]
    for i in at:
        word = next(word for word, other in words.items() if other == i)
        del words[word]
        made["model"]["merges"] = [m for m in made["model"].get("merges", []) if "".join(m) != word and word not in m]
    made["model"].pop("merges") if not made["model"]["merges"] else None
    top = max(words.values())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    made["added_tokens"] += [{"id": top + 1 + i, "content": f"<added {i}>", **flags} for i in range(added)]
    return json.dumps(made).encode()


@pytest.mark.parametrize("name", ["byte-level", "wordpiece"])
@pytest.mark.parametrize("at", [[300], [299, 300, 301, 302, 303, 350], [498]])
@pytest.mark.parametrize("added", [0, 2])
def test_holes_in_the_ids_are_no_words(tmp_path: Path, name: str, at: list[int], added: int) -> None:
    (tmp_path / "tokenizer.json").write_bytes(holed(name, at=at, added=added))
    tokenizer = load_tokenizer(str(tmp_path))
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    top = max([*raw["model"]["vocab"].values(), *(token["id"] for token in raw["added_tokens"])])
    assert vocabulary_size(tokenizer) == len(tokenizer) == top + 1
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in raw["model"]["vocab"]} == raw["model"]["vocab"]
    for token in raw["added_tokens"]:
        assert tokenizer.convert_tokens_to_ids(token["content"]) == token["id"]
    made, vocabulary = add_tags(tokenizer, ["nice", "plain"])
    assert vocabulary.open_ids == (top + 1, top + 2)
    made.save_pretrained(tmp_path / "tagged")
    again = AutoTokenizer.from_pretrained(tmp_path / "tagged")
    assert again.convert_tokens_to_ids(["<nice>", "<plain>"]) == [top + 1, top + 2]
    ids = TextTokenizer(made).encode(pa.array([*TEXT, *PROBES, "<nice>"])).ids
    assert not set(at) & set(ids.tolist())
    assert max(ids) <= top
    if not added:
        before = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in (*TEXT, *PROBES):
            assert (
                before.encode(text, add_special_tokens=False).ids
                == (tokenizer(text, add_special_tokens=False)["input_ids"])
            )


def test_added_tokens_that_stand_apart_keep_their_ids(tmp_path: Path) -> None:
    made = json.loads(holed("byte-level", at=[], added=2))
    made["added_tokens"][-1]["id"] = 800
    made["added_tokens"][-2]["id"] = 600
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    tokenizer = load_file("it", tmp_path / "tokenizer.json")
    assert (tokenizer.token_to_id("<added 0>"), tokenizer.token_to_id("<added 1>")) == (600, 800)
    _, vocabulary = add_tags(PreTrainedTokenizerFast(tokenizer_object=tokenizer), ["nice"])
    assert vocabulary.open_ids == (801,)


def test_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    made = json.loads(family("byte-level").backend_tokenizer.to_str())
    made["model"]["vocab"]["twice"] = 300
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(ConfigError, match=r"has one id, 300, for '.*' and 'twice'"):
        load_tokenizer(str(tmp_path))
    del made["model"]["vocab"]["twice"]
    made["added_tokens"].append(made["added_tokens"][0] | {"id": 400, "content": "<inside>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(ConfigError, match="added token '<inside>' the id 400, the tokenizers library gives it"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_in_memory_whose_tags_would_be_words_is_refused() -> None:
    made = json.loads(family("wordpiece").backend_tokenizer.to_str())
    made["added_tokens"] = made["added_tokens"][:4]
    word = next(word for word, i in made["model"]["vocab"].items() if i == 300)
    del made["model"]["vocab"][word]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(made)))
    with pytest.raises(ConfigError, match="<nice> would be that word"):
        add_tags(tokenizer, ["nice"])
