"""Prompts under tags: what stands where, in the prompt and in what is written on."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tagged_model import SPLITTER, tokenizer_of, untrained

from annotate.errors import ConfigError, StorageError
from annotate.inference import Contrast, log_likelihood, prompt
from annotate.inference.steering import CLASSES, NO_CLASS, span_begins, token_classes
from annotate.inference.tagged import Trained
from annotate.text.splitting import Splitter
from annotate.tokens import TextTokenizer
from annotate.training import add_tag_embeddings


@pytest.fixture(scope="module")
def model(files: Path) -> Any:
    made = untrained(files)
    add_tag_embeddings(made, tokenizer_of(files), str(files))
    return made


def shown(files: Path, given: dict[str, Any], row: int = 0) -> str:
    """A prompt without its padding, with tags."""
    return tokenizer_of(files).decode(given["input_ids"][row][given["attention_mask"][row] == 1])


def test_each_sentence_of_a_prompt_has_the_tags_that_each_sentence_has_in_the_shards(files: Path) -> None:
    known, text = tokenizer_of(files), "One two. Three <nice> four! On"
    once = prompt(known, str(files), text, ["true", "wiki", "nice"], later="none")
    assert shown(files, once) == "<wiki><nice><true>One two. Three <nice> four! On"  # in the order of the shards
    again = prompt(known, str(files), text, ["ideal", "wiki"])
    assert shown(files, again) == (
        "<wiki><nice><true>One two. </true><nice><true>Three <nice> four! </true><nice><true>On"
    )
    nice = known.convert_tokens_to_ids("<nice>")
    assert again["input_ids"][0].tolist().count(nice) == 3  # what the text spells is none
    assert shown(files, prompt(known, str(files), "", "nice")) == "<nice>"
    assert (
        shown(files, prompt(known, str(files), "One. ", "nice")) == "<nice>One. "
    )  # what follows may begin a sentence


def test_one_string_is_one_tag(files: Path) -> None:
    known = tokenizer_of(files)
    both = [prompt(known, str(files), "one", tags) for tags in ("nice", ["nice"])]
    assert torch.equal(both[0]["input_ids"], both[1]["input_ids"])
    with pytest.raises(ConfigError, match="there is no tag 'n'; tags: wiki, nice, true, ideal"):
        prompt(known, str(files), "one", "n")


def test_several_texts_are_padded_on_the_left_and_change_nothing_of_each_other(files: Path, model: Any) -> None:
    known, texts = tokenizer_of(files), ["One two, three. Four", "One"]
    together = prompt(known, str(files), texts, "nice")
    greedy = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    written = model.generate(**together, **greedy)
    for row, text in enumerate(texts):
        alone = prompt(known, str(files), text, "nice")
        assert shown(files, together, row) == shown(files, alone)
        expected = model.generate(**alone, **greedy)[0, alone["input_ids"].shape[1] :]
        assert torch.equal(written[row, together["input_ids"].shape[1] :], expected)


@pytest.mark.parametrize("options", [{"do_sample": True, "num_return_sequences": 3}, {"num_beams": 3}])
@pytest.mark.parametrize("tags", ["nice", "ideal"])
def test_what_is_written_has_its_tags_where_the_shards_have_them(
    files: Path, model: Any, tags: str, options: dict[str, Any]
) -> None:
    """The text is split again, as a whole: before each of its spans, and nowhere else, stand the tags."""
    known, trained = tokenizer_of(files), Trained.read(tokenizer_of(files), str(files))
    texts = ["One two", "The end. It "]
    torch.manual_seed(0)
    given = prompt(known, str(files), texts, tags)
    made = model.generate(**given, **options, max_new_tokens=150, suppress_tokens=[0], pad_token_id=0)
    assert len(made) == 2 * options.get("num_return_sequences", 1)
    spans = 0
    for i, row in enumerate(made):
        ids = row[int((given["attention_mask"][i * 2 // len(made)] == 0).sum()) :].tolist()
        banned = set(trained.vocabulary.ids)
        text = trained.encoder.twin.tokenizer.decode([token for token in ids if token not in banned])
        expected, _ = trained.encode([text], trained.named(tags), every_span=True)
        wanted = [
            (stands_at(expected.ids.tolist()[:k], known, banned), token)
            for k, token in enumerate(expected.ids)
            if token in banned
        ]
        found = [(stands_at(ids[:k], known, banned), token) for k, token in enumerate(ids) if token in banned]
        complete = max(at for at, _ in wanted)  # what the last tokens are of is not known yet
        assert [tag for tag in found if tag[0] < complete] == [tag for tag in wanted if tag[0] < complete]
        spans += len({at for at, _ in wanted})
    assert spans > 2 * len(made)


def scores_of(known: Any, **logits: float) -> torch.Tensor:
    """Scores of one row in which these tokens, as they are spelled, have all probability."""
    scores = torch.full((1, 128), -torch.inf)
    for token, value in logits.items():
        scores[0, known(token, add_special_tokens=False)["input_ids"][0]] = value
    return torch.log_softmax(scores, 1)


def test_a_span_ends_as_likely_as_the_model_says_that_a_tag_or_a_span_comes(files: Path) -> None:
    known = tokenizer_of(files)
    given = prompt(known, str(files), "One two.", "nice")
    steer = given["logits_processor"][0]
    scores = scores_of(known, **{"<true>": 2.0, "<nice>": 1.0, " It": 0.0, ",": 1.5, "<wiki>": 3.0, "<|end|>": 0.5})
    found = steer(given["input_ids"], scores).softmax(1)[0]
    kept = (scores.exp()[0, i].item() for i in known.convert_tokens_to_ids(["<true>", "<nice>", "ĠIt", ",", "<|end|>"]))
    true, nice, begin, comma, end = kept
    whole = true + nice + begin + comma + end  # <wiki> is of documents: it begins no span
    assert found[known.convert_tokens_to_ids("<nice>")].item() == pytest.approx((true + nice + begin) / whole)
    assert found[known.convert_tokens_to_ids(",")].item() == pytest.approx(comma / whole)
    tagged = torch.cat([given["input_ids"], torch.tensor([[known.convert_tokens_to_ids("<nice>")]])], 1)
    behind = steer(tagged, scores)[0].exp()  # a span begins: beams are not charged for that again
    assert behind[known.convert_tokens_to_ids("ĠIt")].item() == pytest.approx(1.0)


def test_a_document_ends_behind_its_closing_tags(files: Path) -> None:
    known = tokenizer_of(files)
    given = prompt(known, str(files), "One two.", ["nice", "true"])
    steer, ids = given["logits_processor"][0], given["input_ids"]
    scores = scores_of(known, **{"<|end|>": 1.0, "<nice>": 1.0, " f": 1.0, ",": 1.0})
    for token, ends in (("</true>", 0.25), ("<nice>", 0.0)):
        ids = torch.cat([ids, torch.tensor([[known.convert_tokens_to_ids(token)]])], 1)
        found = steer(ids, scores)[0].exp()
        following = known.convert_tokens_to_ids("<nice>" if token == "</true>" else "<true>")
        assert found[0].item() == pytest.approx(ends) and found[following].item() == pytest.approx(1 - ends)


def test_blanks_are_a_text(files: Path) -> None:
    known = tokenizer_of(files)
    given = prompt(known, str(files), ["One", " ", "\n\n"], "nice")
    assert [shown(files, given, row) for row in range(3)] == ["<nice>One", "<nice> ", "<nice>\n\n"]


def stands_at(ids: list[int], known: Any, banned: set[int]) -> int:
    """How many characters that are no blanks stand before."""
    return len("".join(known.decode([token for token in ids if token not in banned]).split()))


PIECES = ["One two", "three", ". ", "? ", "!", "\n", "\n\n", " ", "4.5", "Dr.", '"', "\u4f60\u597d\u3002", "e.g.", ")"]
SPLITTERS = [
    SPLITTER,
    Splitter(),
    Splitter(by="line"),
    Splitter(by="paragraph"),
    Splitter(by="document"),
    Splitter(blanks="previous", min_chars=0),
]


@example(["\u4f60\u597d\u3002"], SPLITTER, CLASSES.index(("", '"')))  # the next span begins behind the mark
@example(["One two"], SPLITTER, CLASSES.index(("\n", ":")))  # a list item, if two letters follow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES)), st.sampled_from(SPLITTERS), st.sampled_from(range(NO_CLASS)))
def test_a_span_begins_where_the_splitter_cuts(pieces: list[str], splitter: Splitter, number: int) -> None:
    text = "".join(pieces)
    before = text + CLASSES[number][0]
    whole = before + CLASSES[number][1] + "b" * 40
    starts = splitter.split(pa.array([whole], pa.large_string()))["start"].to_pylist()
    cut = any(
        whole[:start].strip() and not whole[start : len(before)].strip() for start in starts if start <= len(before)
    )
    begins = span_begins(splitter, [text])[0]
    assert begins[number] == cut and not begins[NO_CLASS]


def test_tokens_are_of_the_class_of_the_text_that_they_add(files: Path) -> None:
    known = tokenizer_of(files)
    of_token = token_classes(known, len(known))
    classes = {
        known.convert_tokens_to_string([known.convert_ids_to_tokens(i)]): of_token[i].item() for i in range(len(known))
    }
    assert classes["<nice>"] == classes["<|end|>"] == NO_CLASS
    assert CLASSES[classes["."]] == ("", ".") and CLASSES[classes["O"]] == ("", "A")
    assert CLASSES[classes[" f"]] == (" ", "a")
    assert classes["\n"] == NO_CLASS


def test_a_tokenizer_is_parsed_once_until_it_gets_more_tokens(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    class Counted(TextTokenizer):
        def __init__(self, given: Any) -> None:
            parsed.append(given)
            super().__init__(given)

    monkeypatch.setattr("annotate.inference.tagged.TextTokenizer", Counted)
    known = tokenizer_of(files)
    first, again = (prompt(known, str(files), "one <|more|>", ["nice"]) for _ in range(2))
    assert torch.equal(first["input_ids"], again["input_ids"]) and parsed == [known]
    known.add_special_tokens({"additional_special_tokens": ["<|more|>"]})
    assert torch.equal(prompt(known, str(files), "one <|more|>", ["nice"])["input_ids"], first["input_ids"])
    assert parsed == [known] * 2


def test_free_lets_the_model_write_tags_and_none_bans_them(files: Path, model: Any) -> None:
    known = tokenizer_of(files)
    tags = set(known.convert_tokens_to_ids(["<wiki>", "<nice>", "<true>", "</true>"]))
    torch.manual_seed(0)
    for later, some in (("free", True), ("none", False)):
        given = prompt(known, str(files), "one", "nice", later=later)
        made = model.generate(**given, max_new_tokens=200, do_sample=True, pad_token_id=0)
        assert bool(tags & set(made[0, given["input_ids"].shape[1] :].tolist())) == some


def changed(files: Path, folder: Path, layout: str = "prefix", **said: Any) -> str:
    """Files of shards of which other things are said, and another layout of <nice>."""
    shutil.copytree(files, folder)
    card = json.loads((folder / "tags.json").read_text())
    card["tags"][1]["layout"] = layout
    for name, value in said.items():
        if value is None:
            del card["shards"][name]
        else:
            card["shards"][name] = value
    (folder / "tags.json").write_text(json.dumps(card))
    return str(folder)


def test_what_does_not_fit_is_named(files: Path, tmp_path: Path) -> None:
    known = tokenizer_of(files)
    with pytest.raises(ConfigError, match="there is no tag 'kind'; tags: wiki, nice, true, ideal"):
        prompt(known, str(files), "x", ["kind"])
    behind = changed(files, tmp_path / "behind", layout="suffix")
    for some in ({"tags": "nice"}, {"tags": "true", "guidance": Contrast("true", against="ideal"), "model": object()}):
        with pytest.raises(ConfigError, match="tag 'nice' has the layout 'suffix': no text"):
            prompt(known, behind, "x", **some)
    with pytest.raises(ConfigError, match="neither a text, nor a tag"):
        prompt(known, str(files))
    with pytest.raises(ConfigError, match=r"<wiki> is id .* in the shards, but None for this tokenizer"):
        prompt(tokenizer_of(files, "plain"), str(files), "x")
    swapped = tokenizer_of(files, "plain")
    swapped.add_special_tokens({"additional_special_tokens": ["<wiki>", "<nice>", "</true>", "<true>"]})
    with pytest.raises(ConfigError, match=r"<true> is id .* in the shards, but"):
        prompt(swapped, str(files), "x", ["nice"])
    with pytest.raises(StorageError, match=r"has no tags\.json"):
        prompt(known, str(tmp_path), "x")
    with pytest.raises(ConfigError, match="later must be"):
        prompt(known, str(files), "x", later="always")
    with pytest.raises(ConfigError, match='"free" needs a model that writes tags'):
        prompt(known, changed(files, tmp_path / "masked", loss="mask"), "x", later="free")
    with pytest.raises(ConfigError, match="an older version wrote it"):
        prompt(known, changed(files, tmp_path / "old", splitter=None), "x")
    with pytest.raises(ConfigError, match="rows in its embedding, and none for the tags"):
        prompt(known, str(files), "one", "nice", model=untrained(files))
    with pytest.raises(ConfigError, match="guidance needs the model"):
        prompt(known, str(files), "one", guidance=Contrast("nice"))


def test_windows_of_tokens_begin_nowhere_that_is_known(files: Path, tmp_path: Path) -> None:
    """Tags that stand at each window are refused, but where they are to stand at the start alone; others are not."""
    known = tokenizer_of(files)
    splitter = asdict(Splitter(by="tokens", tokenizer="x")) | {"tokenizer": "a hash"}
    windows = changed(files, tmp_path / "windows", splitter=splitter)
    for later in ("again", "free"):
        with pytest.raises(ConfigError, match=r"<nice> stands before every window of some tokens.*not known") as caught:
            prompt(known, windows, "One two", ["wiki", "nice"], later=later)
        assert 'later="none"' in str(caught.value.hint)
    with pytest.raises(ConfigError, match="<nice> stands before every window"):
        log_likelihood(untrained(files), known, windows, ["One two"], "nice")
    alone = prompt(known, windows, "One two", "nice", later="none")["input_ids"].tolist()[0]
    assert alone == known.convert_tokens_to_ids(["<nice>"]) + known("One two", add_special_tokens=False)["input_ids"]
    assert len(prompt(known, windows, "One two", "wiki")["input_ids"][0]) == len(alone)  # of a larger span
    assert log_likelihood(untrained(files), known, windows, ["One two"]).num_rows == 1
