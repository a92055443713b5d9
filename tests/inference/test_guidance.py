"""Guidance from one prompt to the other, whatever becomes of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tagged_model import tokenizer_of, untrained

from annotate.errors import ConfigError
from annotate.inference import Contrast, Posterior, prompt
from annotate.training import add_tag_embeddings


@pytest.fixture(scope="module")
def model(files: Path) -> Any:
    made = untrained(files)
    add_tag_embeddings(made, tokenizer_of(files), str(files))
    return made


def last(model: Any, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of what follows some tokens, read in one go."""
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)


def shared(moved: torch.Tensor, own: torch.Tensor, tags: list[int]) -> torch.Tensor:
    """Each tag as likely as before; the tokens of the text share the rest, as `moved` says."""
    moved, mass = moved.clone(), torch.log1p(-own[..., tags].exp().sum(-1, keepdim=True))
    moved[..., tags] = -torch.inf
    moved = torch.log_softmax(moved, -1) + mass
    moved[..., tags] = own[..., tags]
    return moved


def test_the_first_token_goes_from_one_prompt_to_the_other(files: Path, model: Any) -> None:
    known = tokenizer_of(files)

    def first_scores(**options: Any) -> torch.Tensor:
        given = prompt(known, str(files), "one two", model=model, later="none", **options)
        out = model.generate(
            **given, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_scores=True, pad_token_id=0
        )
        return out.scores[0][0]

    usual = torch.isfinite(first_scores())
    plain, nice = (
        last(model, prompt(known, str(files), "one two", tags)["input_ids"][0].tolist()) for tags in ([], ["nice"])
    )
    guided = first_scores(tags=["nice"], guidance=Contrast("nice", weight=2.0))
    expected = plain + 3 * (nice - plain)
    tags = known.convert_tokens_to_ids(["<wiki>", "<nice>", "<true>", "</true>"])
    expected = torch.log_softmax(shared(expected, nice, tags)[usual], -1)  # tags are banned then
    assert torch.allclose(torch.log_softmax(guided[usual], -1), expected, atol=1e-4)
    assert not usual[known.convert_tokens_to_ids("<nice>")]  # banned
    away = first_scores(tags=["nice"], guidance=Contrast("nice", against="true", weight=2.0))
    assert not torch.allclose(away[usual], guided[usual], atol=1e-4)


@pytest.mark.parametrize("against", [(), ("ideal",)])
def test_rows_of_beams_are_followed_and_tags_are_those_of_the_other_prompt(
    files: Path, model: Any, against: tuple[str, ...]
) -> None:
    known = tokenizer_of(files)
    contrast = Contrast("nice", against=against, weight=1.0)
    given = prompt(known, str(files), ["one two", "The"], "nice", guidance=contrast, model=model)
    guidance = given["logits_processor"][0]
    tags = set(guidance.others.tags)
    nice, close = known.convert_tokens_to_ids(["<nice>", "</true>"])
    closed, opened = ([close], known.convert_tokens_to_ids(["<nice>", "<true>"])) if against else ([], [])
    others = [prompt(known, str(files), text, against)["input_ids"][0].tolist() for text in ("one two", "The")]
    ids = given["input_ids"].repeat_interleave(2, 0)
    texts = [others[0], others[0], others[1], others[1]]
    # Rows are swapped within a prompt, one takes the other's place, and tags are put in some rows only.
    for order, tokens in [
        ([0, 1, 2, 3], [3, 4, 5, nice]),
        ([1, 0, 2, 3], [6, 7, nice, 8]),
        ([1, 1, 3, 2], [nice, 9, 10, 11]),
        ([0, 0, 2, 3], [12, 13, close, 15]),
        ([0, 1, 2, 3], [12, 13, nice, close]),
        ([0, 1, 3, 2], [12, 13, 8, 9]),
    ]:
        scores = torch.randn(4, 128)
        found = guidance(ids, scores)
        for row in range(4):
            other, own = last(model, texts[row]), torch.log_softmax(scores[row], -1)
            expected = other + 2 * (own - other)
            assert torch.allclose(found[row], shared(expected, own, sorted(tags)), atol=1e-4)
        ids = torch.cat([ids[order], torch.tensor(tokens)[:, None]], 1)
        texts = [texts[i] for i in order]
        for row, token in enumerate(tokens):
            after_closing = ids[row, -2] == close and token == nice
            texts[row] = texts[row] + {
                nice: opened if after_closing else [*closed, *opened],
                close: closed,
            }.get(token, [token])


def test_a_wrapped_model_is_told_positions_too(files: Path, model: Any) -> None:
    """PEFT's model takes whatever the one inside does; padded texts need their positions."""

    class Wrapped:
        device = model.device

        def get_base_model(self) -> Any:
            return model

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return model(*args, **kwargs)

        __call__ = forward

    given = [
        prompt(tokenizer_of(files), str(files), ["one two", "The"], "nice", guidance=Contrast("nice"), model=m)
        for m in (model, Wrapped())
    ]
    scores = torch.randn(2, 128)
    found, wrapped = (each["logits_processor"][0](each["input_ids"], scores) for each in given)
    assert torch.allclose(found, wrapped, atol=1e-5)


def test_contrasts_are_added_with_their_weights(files: Path, model: Any) -> None:
    """From the untagged prompt it is a product of experts; one of them goes the other way."""
    known = tokenizer_of(files)
    terms = [Contrast("nice", weight=1.5), Contrast("true", weight=-0.5)]
    given = prompt(known, str(files), "one two", guidance=terms, model=model)
    untagged, nice, true = (
        prompt(known, str(files), "one two", tags)["input_ids"][0].tolist() for tags in ((), "nice", "true")
    )
    own = last(model, untagged)
    expected = own + 1.5 * (last(model, nice) - own) - 0.5 * (last(model, true) - own)
    tags = known.convert_tokens_to_ids(["<wiki>", "<nice>", "<true>", "</true>"])
    found = given["logits_processor"][0](given["input_ids"], own[None])
    assert torch.allclose(found[0], shared(expected, own, tags), atol=1e-4)


def test_the_posterior_is_that_of_bayes_rule_over_what_was_written(files: Path, model: Any) -> None:
    known = tokenizer_of(files)
    term = Posterior("nice", against="true", weight=4.0, prior=0.25)
    texts = ["one two", "The"]
    given = prompt(known, str(files), texts, "nice", guidance=term, model=model)
    guidance, ids = given["logits_processor"][0], given["input_ids"]
    tags = sorted(guidance.others.tags)
    rows = {
        tag: [prompt(known, str(files), text, tag)["input_ids"][0].tolist() for text in texts]
        for tag in ("nice", "true")
    }
    sums = {tag: torch.zeros(2) for tag in rows}
    close, nice, true = known.convert_tokens_to_ids(["</true>", "<nice>", "<true>"])
    for step, tokens in enumerate([(5, 6), (7, nice), (8, 9)]):
        own = torch.log_softmax(torch.randn(2, 128), -1)
        found = guidance(ids, own)
        logs = {tag: torch.stack([last(model, row) for row in rows[tag]]) for tag in rows}
        count = torch.tensor([step, step - (step == 2)])  # a tag is no token of the text
        log_likelihoods = {tag: (sums[tag][:, None] + logs[tag]) / (count[:, None] + 1) for tag in rows}
        joint = {"nice": 0.25 * log_likelihoods["nice"].exp(), "true": 0.75 * log_likelihoods["true"].exp()}
        expected = own + 4 * torch.log(joint["nice"] / (joint["nice"] + joint["true"]))
        assert torch.allclose(found, shared(expected, own, tags), atol=1e-3)
        assert torch.allclose(found.exp().sum(-1), torch.ones(2), atol=1e-4)
        ids = torch.cat([ids, torch.tensor(tokens)[:, None]], 1)
        for i, token in enumerate(tokens):
            for tag in rows:
                if token != nice:
                    sums[tag][i] += logs[tag][i, token]
                    rows[tag][i] = [*rows[tag][i], token]
                else:  # under the opposite tag, that one stands there, after the closing tag of the span before
                    rows[tag][i] = [*rows[tag][i], *([nice] if tag == "nice" else [close, true])]


def test_what_is_no_contrast_is_refused(files: Path, model: Any) -> None:
    known = tokenizer_of(files)
    with pytest.raises(ConfigError, match="different tags"):
        Contrast("nice", against=["nice"])
    with pytest.raises(ConfigError, match="same tags"):  # an alias of both
        prompt(known, str(files), "The", guidance=Contrast("ideal", against=["nice", "true"]), model=model)
    with pytest.raises(ConfigError, match="one tag and its opposite"):
        Posterior("nice", against=())
    with pytest.raises(ConfigError, match="weight"):
        Contrast("nice", weight=float("nan"))
    with pytest.raises(ConfigError, match="prior"):
        Posterior("nice", against="true", prior=1.0)
    with pytest.raises(ConfigError, match="guidance is a Contrast"):
        prompt(known, str(files), "The", guidance=2.0, model=model)
    with pytest.raises(ConfigError, match="needs the model"):
        prompt(known, str(files), "The", guidance=Contrast("nice"))
    with pytest.raises(ConfigError, match="no tag 'kind'"):
        prompt(known, str(files), "The", guidance=Contrast("kind"), model=model)


@pytest.mark.parametrize("options", [{"do_sample": True, "num_return_sequences": 3}, {"num_beams": 3}])
def test_sequences_and_beams_are_guided(files: Path, model: Any, options: dict[str, Any]) -> None:
    known = tokenizer_of(files)
    torch.manual_seed(0)
    terms = [Contrast("nice"), Posterior("true", against="nice")]
    given = prompt(known, str(files), ["one two", "The"], "nice", guidance=terms, model=model)
    made = model.generate(**given, **options, max_new_tokens=20, pad_token_id=0)
    assert len(made) == 2 * options.get("num_return_sequences", 1)
