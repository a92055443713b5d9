"""Tags in the tokenizer: one id each, saved with it, on new ids or on slots kept free; and what `tags.json` says."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from token_families import FAMILIES, TAGS, TEXT, encoder, family, tagged
from tokenizers import AddedToken, Tokenizer
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    GPT2TokenizerFast,
    LlamaTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
    T5TokenizerFast,
)

from annotate.errors import ConfigError
from annotate.tokenizer_file import PROBES
from annotate.tokens import (
    TextTokenizer,
    add_tags,
    check_ids,
    load_tokenizer,
    reserved_slots,
    tags_card,
    token_bits,
    tokenizer_hash,
    vocabulary_size,
)

CLASSES = {
    GPT2TokenizerFast: "byte-level",
    RobertaTokenizerFast: "byte-level-prefix",
    T5TokenizerFast: "metaspace",
    LlamaTokenizerFast: "llama",
    BertTokenizerFast: "wordpiece",
}


def copy_of(name):
    return PreTrainedTokenizerFast(tokenizer_object=family(name).backend_tokenizer)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_tag_is_one_special_token(name):
    tokenizer, vocabulary = tagged(name)
    size = vocabulary_size(family(name))
    assert vocabulary.open_ids == (size, size + 1, size + 2)
    assert vocabulary.close_ids == (-1, size + 3, -1)
    assert vocabulary.ids == [size, size + 1, size + 2, size + 3]
    for token, i in vocabulary.tokens.items():
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()[i]
        assert (added.content, added.special) == (token, True)
        assert not (added.normalized or added.lstrip or added.rstrip or added.single_word)
        assert tokenizer(f"the{token} dog", add_special_tokens=False)["input_ids"].count(i) == 1
        assert token in tokenizer.all_special_tokens
    assert vocabulary_size(tokenizer) == size + 4
    assert vocabulary_size(family(name)) == size  # the tokenizer that was given stays as it is


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokenizer_is_saved_and_read_back(name, tmp_path):
    tokenizer, vocabulary = tagged(name)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.convert_tokens_to_ids(list(vocabulary.tokens)) == list(vocabulary.tokens.values())
    assert tokenizer_hash(again) == tokenizer_hash(tokenizer) != tokenizer_hash(family(name))
    texts = pa.array(TEXT)
    assert TextTokenizer(again).encode(texts).ids.tolist() == encoder(name).encode(texts).ids.tolist()


@pytest.mark.parametrize("of_class", CLASSES, ids=lambda c: c.__name__)
def test_classes_that_build_their_tokenizer_themselves(of_class, tmp_path):
    """Transformers makes these anew from the vocabulary; ids are still those of tags, and no text gets them."""
    copy_of(CLASSES[of_class]).save_pretrained(tmp_path / "plain")
    config = tmp_path / "plain" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": of_class.__name__}))
    file = Tokenizer.from_file(str(tmp_path / "plain" / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path / "plain"))
    made, vocabulary = add_tags(tokenizer, TAGS, closing=["tone"])
    made.save_pretrained(tmp_path / "tagged")
    again = load_tokenizer(str(tmp_path / "tagged"))
    for other in (tokenizer, again, AutoTokenizer.from_pretrained(tmp_path / "tagged")):
        for text in (*TEXT, *PROBES):
            assert other(text, add_special_tokens=False)["input_ids"] == file.encode(text, add_special_tokens=False).ids
    classed = AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert type(classed) is of_class
    assert not_a_special_token_of_text(*add_tags(classed, TAGS, closing=["tone"]))
    assert not_a_special_token_of_text(again, vocabulary)


def not_a_special_token_of_text(tokenizer, vocabulary):
    assert tokenizer.convert_tokens_to_ids(list(vocabulary.tokens)) == list(vocabulary.tokens.values())
    text = pa.array([" ".join([*vocabulary.tokens, *tokenizer.all_special_tokens, "the dog"])])
    # T5's own class takes entry 2 for what is unknown, whatever it is called.
    unknown = {tokenizer.unk_token_id, json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("unk_id")}
    return not (set(tokenizer.all_special_ids) - unknown) & set(TextTokenizer(tokenizer).encode(text).ids.tolist())


@pytest.mark.parametrize("name", FAMILIES)
def test_reserved_slots_keep_the_size(name, tmp_path):
    tokenizer = copy_of(name)
    if "wordpiece" not in name:
        slots = [f"<|reserved_special_token_{i}|>" for i in range(3)]
        tokenizer.add_tokens([AddedToken(slot, special=True, normalized=False) for slot in slots], special_tokens=True)
    slots = reserved_slots(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(slots)
    assert len(slots) >= 3
    assert ids == sorted(ids)
    made, vocabulary = add_tags(tokenizer, ["nice", "plain"], closing=["plain"], reserved=slots)
    assert list(vocabulary.tokens) == ["<nice>", "<plain>", "</plain>"]
    assert list(vocabulary.tokens.values()) == ids[:3]
    assert vocabulary_size(made) == vocabulary_size(tokenizer)
    assert made.convert_ids_to_tokens(ids[:3]) == ["<nice>", "<plain>", "</plain>"]
    assert reserved_slots(tokenizer) == slots
    assert reserved_slots(made) == slots[3:]
    made.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.convert_tokens_to_ids(list(vocabulary.tokens)) == ids[:3]
    text = pa.array(["the <nice> dog </plain> <plain>", *TEXT])
    encoded = TextTokenizer(again).encode(text)
    assert not set(ids[:3]) & set(encoded.ids.tolist())
    before = TextTokenizer(tokenizer).encode(text)
    assert encoded.ids[encoded.documents[1] :].tolist() == before.ids[before.documents[1] :].tolist()


def test_tags_that_are_there_already_keep_their_ids():
    tokenizer, vocabulary = tagged("byte-level")
    again, same = add_tags(tokenizer, TAGS, closing=["plain"])
    assert same == vocabulary
    assert vocabulary_size(again) == vocabulary_size(tokenizer)


def test_a_tag_without_a_family_is_one_of_its_own():
    _, vocabulary = add_tags(family("byte-level"), TAGS, families={"tone": 4, "nice": 4})
    assert vocabulary.families == (4, 6, 4)


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (["nice", "nice"], {}, "used twice: <nice>"),
        (["nice", "/nice"], {"closing": ["nice"]}, "used twice: </nice>"),
        (["nice"], {"closing": ["rude"]}, "closing names tags that are not known: rude"),
        (["nice"], {"families": {"rude": 1}}, "families names tags that are not known: rude"),
        (["nice", "tone"], {"reserved": ["<s>"]}, "2 tokens need as many different reserved slots, got 1"),
        (["nice", "tone"], {"reserved": ["<s>", "<s>"]}, "as many different reserved slots, got 1"),
        (["nice"], {"reserved": ["<slot>"]}, "no token '<slot>' to put <nice> on"),
    ],
)
def test_tags_that_do_not_fit_are_refused(names, more, said):
    with pytest.raises(ConfigError, match=said):
        add_tags(family("byte-level"), names, **more)


def test_an_ordinary_token_that_is_spelled_like_a_tag_is_refused():
    tokenizer = copy_of("byte-level")
    tokenizer.add_tokens(["<nice>"])
    with pytest.raises(ConfigError, match="an ordinary token that is spelled <nice>"):
        add_tags(tokenizer, ["nice"])


def test_a_tag_that_does_not_come_back_as_one_token_is_refused():
    """A token that takes the first letters of the tag with it."""
    tokenizer = copy_of("byte-level")
    tokenizer.add_tokens([AddedToken("a<n", normalized=False)])
    with pytest.raises(ConfigError, match="<nice> is not exactly one token"):
        add_tags(tokenizer, ["nice"])


def test_the_slots_of_a_class_that_makes_them_itself(tmp_path):
    copy_of("metaspace").save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "T5Tokenizer"}))
    tokenizer = load_tokenizer(str(tmp_path))
    slots = reserved_slots(tokenizer)
    assert len(slots) == 100
    made, vocabulary = add_tags(tokenizer, ["nice"], reserved=slots)
    assert vocabulary_size(made) == vocabulary_size(tokenizer)
    assert vocabulary.open_ids[0] == tokenizer.convert_tokens_to_ids(slots[0])
    assert len(reserved_slots(made)) == 99


def test_a_class_that_needs_its_slots_is_refused(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("100 slots are needed")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ConfigError, match="can't be without its slots: 100 slots are needed"):
        add_tags(family("wordpiece"), ["nice"], reserved=["[unused1]"])


def test_sizes_and_bits():
    tokenizer, _ = tagged("byte-level")
    assert vocabulary_size(tokenizer) == 504
    assert vocabulary_size(tokenizer, multiple=64) == 512
    assert vocabulary_size(tokenizer, multiple=128) == 512
    assert vocabulary_size(tokenizer, multiple=504) == 504
    assert (token_bits(65536), token_bits(65537)) == (16, 32)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        vocabulary_size(tokenizer, multiple=0)


def test_the_card_of_tags():
    tokenizer, vocabulary = tagged("byte-level")
    about = {"nice": {"meaning": "kind to the reader", "rule": "niceness >= q(0.7)", "threshold": 0.25, "ties": 3}}
    card = tags_card(vocabulary, tokenizer, untagged=family("byte-level"), about=about, multiple=128)
    assert json.loads(json.dumps(card)) == card
    assert card["tags"][0] == {
        "name": "nice",
        "token": "<nice>",
        "id": 500,
        "closing_token": None,
        "closing_id": None,
        "family": 0,
        "meaning": "kind to the reader",
        "rule": "niceness >= q(0.7)",
        "threshold": 0.25,
        "ties": 3,
    }
    assert card["tags"][1]["closing_token"] == "</plain>"
    assert card["tags"][1]["closing_id"] == 503
    assert card["tags"][1]["rule"] is None
    assert card["vocabulary"] == {
        "size": 504,
        "padded_size": 512,
        "untagged_size": 500,
        "bits": 16,
        "untagged_bits": 16,
    }
    assert card["initialisation"]["rows"] == card["banned_when_sampling"] == [500, 501, 502, 503]
    assert (card["initialisation"]["noise"], card["initialisation"]["of_rows_below"]) == (0.01, 500)
    assert {example["text"]: example["ids"] for example in card["examples"]} == {
        text: family("byte-level")(text)["input_ids"] for text in PROBES
    }
    for like in (tokenizer, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())):
        check_ids(card, like)
        getattr(like, "backend_tokenizer", like).enable_truncation(2)  # as a user's last call may have left it
        getattr(like, "backend_tokenizer", like).enable_padding(length=9)
        check_ids(card, like)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    other = add_tags(family("tiktoken"), TAGS, closing=["plain"])[0]
    with pytest.raises(ConfigError, match=r"has the ids .* in the shards, but .*the model was trained on other tokens"):
        check_ids(card, other)
    with pytest.raises(ConfigError, match="not known: rude"):
        tags_card(vocabulary, tokenizer, untagged=family("byte-level"), about={"rude": {}})
    with pytest.raises(ConfigError, match="keys that are taken: id"):
        tags_card(vocabulary, tokenizer, untagged=family("byte-level"), about={"nice": {"id": 1}})


def test_a_tokenizer_json_alone_a_directory_of_it_and_a_saved_one_are_the_same(tmp_path):
    backend = family("tiktoken").backend_tokenizer
    (tmp_path / "lone").mkdir()
    backend.save(str(tmp_path / "lone" / "tokenizer.json"))
    family("tiktoken").save_pretrained(tmp_path / "saved")
    names = [tmp_path / "lone" / "tokenizer.json", tmp_path / "lone", tmp_path / "saved"]
    hashes = {tokenizer_hash(load_tokenizer(str(name))) for name in names}
    assert hashes == {tokenizer_hash(family("tiktoken"))}


def test_truncation_and_padding_of_a_file_are_switched_off(tmp_path):
    backend = Tokenizer.from_str(family("byte-level").backend_tokenizer.to_str())
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(str(tmp_path / "tokenizer.json"))
    assert loaded.backend_tokenizer.truncation is None
    assert loaded.backend_tokenizer.padding is None
    assert len(TextTokenizer(backend).encode(pa.array(["The quick brown fox"])).ids) > 2


@pytest.mark.parametrize(
    ("name", "content", "more", "said"),
    [
        ("none.json", None, {}, "none.json' cannot be read: there is no such file"),
        ("tokenizer.json", "{}", {}, "is not a tokenizer.json"),
        ("tokenizer.json", "{}", {"revision": "main"}, "a revision is for a hub name"),
        ("folder", None, {}, "folder' cannot be loaded"),
    ],
)
def test_tokenizers_that_cannot_be_loaded(tmp_path, name, content, more, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    if name == "folder":
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=said):
        load_tokenizer(str(tmp_path / name), **more)


def test_a_hub_name_that_is_not_on_this_machine():
    with pytest.raises(ConfigError, match="'nobody/nothing' at revision 'v1' cannot be loaded"):
        load_tokenizer("nobody/nothing", revision="v1")


def test_a_slow_tokenizer_is_refused(tmp_path):
    """A class without a fast form: one id a character."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    with pytest.raises(ConfigError, match=r"must be a fast one, .* got CanineTokenizer"):
        load_tokenizer(str(tmp_path))


def test_code_of_a_tokenizers_own_is_not_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Own\n"
    )
    family("byte-level").save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    more = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    config.write_text(json.dumps(json.loads(config.read_text()) | more))
    try:
        load_tokenizer(str(tmp_path))
    except ConfigError as error:
        assert "cannot be loaded" in str(error)
    assert not ran.exists()
