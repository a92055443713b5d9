"""What a chat template is held to: no clock, no chance, and the span in what it writes."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHAT, TEXTS, make_tokenizer
from transformers import AutoTokenizer

from annotate.errors import ConfigError
from annotate.models.base import expand
from annotate.models.chat_template import DATE, encode_chat, read_chat
from annotate.models.prompts import encode_pairs
from annotate.scorers import CausalModel, RewardModel
from annotate.stages.corpus import Corpus
from annotate.stages.score import Score
from annotate.stages.split import Split
from annotate.storage.manifests import Manifest

CLOCK = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y %H:%M') %}{%- endif %}"
    "{{ bos_token }}Today Date: {{ date_string }}\n" + CHAT.removeprefix("{{ bos_token }}")
)
TRIM = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
OTHER_ROLES = "{{ bos_token }}{% for m in messages %}{% if m.role == 'human' %}{{ m.content }}{% endif %}{% endfor %}"
THINKING = TRIM.replace("m.content | trim", "m.content.split('</think>')[-1] | trim")


@pytest.fixture
def with_template(copy_model):
    def build(template: str) -> str:
        directory = copy_model("reward")
        (directory / "chat_template.jinja").write_text(template)
        return str(directory)

    return build


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 3, 4, 5, 6)


def conversation(template, **settings):
    tokenizer = make_tokenizer(chat_template=template)
    chat = read_chat(tokenizer, settings.get("date", DATE), "x")
    return tokenizer, chat


def test_the_clock_reaches_no_template(with_template, monkeypatch):
    # As many known words as there are years since 2000, since the tiny vocabulary knows no dates.
    directory = with_template("{{ 'cat ' * (strftime_now('%Y') | int - 2000) }}" + CLOCK)
    scorer = RewardModel(directory, axis="helpful", prompt="hello")
    today = scorer.backbone.prepare(pa.table({"text": TEXTS}))
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert "04 Mar 2031" in tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    tomorrow = scorer.backbone.prepare(pa.table({"text": TEXTS}))
    for name, array in today.arrays.items():
        assert array.tobytes() == tomorrow.arrays[name].tobytes(), name
    # Others in this process still see the clock.
    assert "04 Mar 2031" in tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)


def test_the_date_is_a_setting_of_the_recipe(with_template):
    _, chat = conversation(CLOCK, date="2025-12-01")
    assert "Today Date: 01 Dec 2025 00:00" in chat.write("hello", "a dog")[0]
    assert "Today Date: 26 Jul 2024 00:00" in conversation(CLOCK)[1].write("hello", "a dog")[0]
    directory = with_template(CLOCK)
    fixed, other = (RewardModel(directory, axis="a", prompt="x", **s) for s in ({}, {"date": "2025-12-01"}))
    assert fixed.identity() != other.identity()
    assert fixed.identity()["model"]["date"] == DATE


@pytest.mark.parametrize("bad", ["tomorrow", "2024-13-01", 7])
def test_a_date_is_checked(bad):
    with pytest.raises(ConfigError, match="date must be a day as YYYY-MM-DD"):
        RewardModel("x", axis="a", prompt="x", date=bad)
    with pytest.raises(ConfigError, match="a date is for a chat template"):
        RewardModel("x", axis="a", inputs="text", date="2025-12-01")


@pytest.mark.parametrize("chance", ["{{ ['a', 'b'] | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_at_random_is_refused(with_template, chance):
    with pytest.raises(ConfigError, match="its chat template fails on a prompt and an answer"):
        RewardModel(with_template(chance + CHAT), axis="a", prompt="x").resolved()


REFUSED = {
    "other-roles": OTHER_ROLES,
    "twice": CHAT + CHAT,
    "turned": "{{ messages[1].content }} {{ messages[0].content }}",
    "raises": "{{ raise_exception('no') }}",
    "broken": "{% if",
}


@pytest.mark.parametrize("template", REFUSED.values(), ids=REFUSED)
def test_a_template_that_does_not_write_the_span_is_refused_before_any_work(with_template, template):
    directory = with_template(template)
    with pytest.raises(ConfigError, match=rf"model '{directory}': its chat template") as told:
        RewardModel(directory, axis="a", prompt="x").resolved()
    assert "inputs='pair'" in told.value.hint


@pytest.mark.parametrize("template", [CHAT, TRIM, CLOCK])
@settings(deadline=None)
@given(prompt=st.text(max_size=20), text=st.text(max_size=20))
def test_what_transformers_writes_is_written_and_prompt_and_span_are_found(template, prompt, text):
    tokenizer, chat = conversation(template)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    written, places = chat.write(prompt, text)
    if template is not CLOCK:
        assert written == tokenizer.apply_chat_template(messages, tokenize=False)
    assert places is not None
    assert written[places[0] : places[1]].strip() == prompt.strip()
    assert written[places[2] : places[3]].strip() == text.strip()


def test_a_span_that_a_template_changes_has_no_score_and_says_why(with_template):
    scorer = RewardModel(with_template(THINKING), axis="helpful", prompt="hello").resolved()
    prepared = scorer.backbone.prepare(pa.table({"text": ["a dog", "you are </think> nice", "good dog"]}))
    values, failures = expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0])
    assert failures == {1: "the chat template does not write the span as it is"}
    assert np.isnan(values[:, 0]).tolist() == [False, True, False]


def words(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


def test_a_long_prompt_does_not_push_the_span_out():
    tokenizer = make_tokenizer(eos=False, chat_template=CHAT)
    prompts = ["cat " * 60 + "the mat", "hello", "hello", "cat " * 60 + "the mat"]
    texts = ["a good dog", "a good dog", "dog " * 50, "bad " + "dog " * 50]
    chat = read_chat(tokenizer, DATE, "x")
    encoded = encode_chat(tokenizer.backend_tokenizer, chat, prompts, texts, 27, "x")
    rows = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
    assert encoded.context_cut.tolist() == [True, False, False, True]
    assert encoded.truncated.tolist() == [False, False, True, True]
    assert encoded.lengths.tolist() == [27, 11, 27, 27]
    around = ["<s>", "user", ":", "</s>", "assistant", ":", "</s>"]
    room = 27 - len(around)
    for row, prompt, text in zip(
        rows,
        [["cat"] * 15 + ["the", "mat"], ["hello"], ["hello"], ["cat"] * 8 + ["the", "mat"]],
        [["a", "good", "dog"], ["a", "good", "dog"], ["dog"] * (room - 1), ["bad"] + ["dog"] * 9],
        strict=True,
    ):
        assert words(tokenizer, row) == [*around[:3], *prompt, *around[3:6], *text, *around[6:]]


def test_a_pair_is_cut_as_a_conversation_is():
    tokenizer = make_tokenizer()
    encoded = encode_pairs(
        tokenizer.backend_tokenizer, ["cat " * 40 + "mat", "hello"], ["a dog", "dog " * 40], 12, "x", types=True
    )
    first, second = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
    assert words(tokenizer, first) == ["<s>", *["cat"] * 6, "mat", "</s>", "a", "dog", "</s>"]
    assert words(tokenizer, second) == ["<s>", "hello", "</s>", *["dog"] * 8, "</s>"]
    assert encoded.types.tolist() == [0] * 9 + [1] * 3 + [0] * 3 + [1] * 9
    assert (encoded.context_cut.tolist(), encoded.truncated.tolist()) == ([True, False], [False, True])


def test_a_template_that_leaves_no_room_is_refused():
    tokenizer = make_tokenizer(eos=False, chat_template=CHAT)
    chat = read_chat(tokenizer, DATE, "x")
    with pytest.raises(ConfigError, match=r"takes 7 of max_length=7 tokens"):
        encode_chat(tokenizer.backend_tokenizer, chat, ["a"], ["dog"], 7, "x")


def test_cut_prompts_are_counted_and_told_apart_from_cut_spans(tiny):
    table = pa.table({"text": ["a dog", "a dog", "hello"], "question": ["cat " * 80, "cat", "cat " * 80]})
    reward = RewardModel(tiny("reward"), axis="helpful", prompt_column="question").backbone.prepare(table)
    assert (reward.context_cut.tolist(), reward.truncated.any()) == ([True, False, True], False)
    model = CausalModel(tiny("gpt2"), context_column="question").prepare(table)
    assert (model.context_cut.tolist(), model.truncated.any()) == ([True, False, True], False)


def test_a_stage_says_which_was_long(tiny, tmp_path):
    stage = Score(Split(Corpus(str(tmp_path / "*.parquet"))), RewardModel(tiny("reward"), axis="helpful", prompt="a"))
    counts = {"spans": 30, "cut_contexts": 20, "truncated_spans": 0}
    manifest = Manifest("annotations", "0" * 8, "0" * 16, {}, {}, (), units=1, rows=30, size=1, counts=counts)
    (said,) = stage.remarks(manifest)
    assert said.startswith("20 of 30 spans have a prompt or context that leaves them too little")


def test_json_in_a_tokenizers_settings_is_no_template(with_template):
    directory = with_template(CHAT)
    (Path(directory) / "tokenizer_config.json").write_text('["a list"]')
    with pytest.raises(ConfigError, match=r"tokenizer_config.json can't be read"):
        RewardModel(directory, axis="a", prompt="x").resolved()
