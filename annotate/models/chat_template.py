"""Conversations as a model's chat template writes them: with the clock stopped, and each span found in them."""

from __future__ import annotations

import datetime
import functools
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from annotate.errors import ConfigError
from annotate.models.encode import Encoded, encode
from annotate.models.files import reason
from annotate.models.prompts import Places, fit, shorten

DATE = "2024-07-26"
"""The date that templates get, unless another is set. Llama 3's own template falls back to it."""

_PROMPT, _SPAN = "PROMPTGOESHERE", "SPANGOESHERE"
"""Stand for prompt and span when a template is looked at."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A chat template, by what it writes before, between and after prompt and span.

    Attributes:
        source: of the template, of Jinja.
        date: what the template gets for today, `YYYY-MM-DD`.
        names: the special tokens by name, which a template may write.
        head: before the prompt.
        middle: between prompt and span.
        tail: after the span.
    """

    source: str
    date: str
    names: dict[str, str]
    head: str
    middle: str
    tail: str

    def write(self, prompt: str, text: str) -> tuple[str, tuple[int, int, int, int] | None]:
        """One conversation, and where in it prompt and span begin and end; None where they do not stand in it.

        Many templates strip what they are given: then both may lack the blanks round them, and nothing else.
        """
        written = _render(_compile(self.source, self.date), self.names, prompt, text)
        for said, answered in itertools.product(_blanks(prompt), _blanks(text)):
            size = len(self.head) + len(said) + len(self.middle) + len(answered) + len(self.tail)
            if len(written) == size and written == self.head + said + self.middle + answered + self.tail:
                begin = len(self.head) + len(said) + len(self.middle)
                return written, (len(self.head), len(self.head) + len(said), begin, begin + len(answered))
        return written, None


def read_chat(tokenizer: Any, date: str, name: str) -> Chat:
    """Look at a model's chat template.

    Args:
        tokenizer: a Transformers tokenizer.
        date: what the template gets for today, `YYYY-MM-DD`.
        name: what to call the model in messages.

    Raises:
        ConfigError: there is no template; it fails, or draws at random; or it does not write prompt and span.
    """
    if not tokenizer.chat_template:
        raise ConfigError(f"model {name!r} has no chat template", hint="set inputs='pair' or inputs='text'")
    names = {key: str(token) for key, token in tokenizer.special_tokens_map.items()}
    try:
        source = tokenizer.get_chat_template()
        written = _render(_compile(source, date), names, _PROMPT, _SPAN)
    except Exception as error:
        raise ConfigError(
            f"model {name!r}: its chat template fails on a prompt and an answer: {reason(error)}",
            hint="set inputs='pair' or inputs='text', if the model was trained so; or mend its chat_template.jinja",
        ) from error
    head, _, rest = written.partition(_PROMPT)
    middle, _, tail = rest.partition(_SPAN)
    if (written.count(_PROMPT), rest.count(_SPAN), head.count(_SPAN)) != (1, 1, 0):
        raise ConfigError(
            f"model {name!r}: its chat template does not write once what the roles 'user' and 'assistant' say, in this "
            f"order; of two messages it makes {written[:200]!r}",
            hint="its template may know other roles: mend its chat_template.jinja, or set inputs='pair' or "
            "inputs='text', if the model was trained so",
        )
    return Chat(source=source, date=date, names=names, head=head, middle=middle, tail=tail)


def encode_chat(
    tokenizer: Tokenizer, chat: Chat, prompts: Sequence[str], texts: Sequence[str], max_length: int, name: str
) -> Encoded:
    """Tokenize conversations as the model's chat template writes them.

    The template writes all special tokens, the first included, so none is added. Where a conversation is too long, the
    start of the prompt and the end of the span are cut. The template's own tokens stay: a reward model reads at their
    end.

    Raises:
        ConfigError: the template leaves no room.
    """
    prompts, texts, cut_before, cut_after = shorten(prompts, texts, max_length)
    written, places, unfit = [], [], {}
    for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        conversation, at = chat.write(prompt, text)
        if at is None:
            which = "span" if text.strip() not in conversation else "prompt"
            unfit[i] = f"the chat template does not write the {which} as it is"
            # Its score is dropped, so anything short will do.
            conversation, at = chat.head + chat.middle + chat.tail, (0, 0, 0, 0)
        written.append(conversation)
        places.append(at)
    whole = encode(tokenizer, written, None, special=False)

    def parts(row: int, encoding: Any) -> tuple[Places, Places]:
        offsets = np.array(encoding.offsets)
        prompt_begin, prompt_end, begin, end = places[row]
        inside = [
            np.flatnonzero((offsets[:, 0] >= first) & (offsets[:, 1] <= last) & (offsets[:, 1] > offsets[:, 0]))
            for first, last in ((prompt_begin, prompt_end), (begin, end))
        ]
        return inside[0], inside[1]

    fitted = fit(whole, tokenizer, written, parts, max_length, name, special=False)
    return fitted.cut(cut_before, cut_after).without(unfit)


def _blanks(text: str) -> list[str]:
    """A text as it is, and without the blanks round it, as templates may write it."""
    return list(dict.fromkeys((text, text.strip(), text.lstrip(), text.rstrip())))


@functools.lru_cache(maxsize=16)
def _compile(source: str, date: str) -> Any:
    """Compile a template as Transformers does, without what differs from run to run: the clock and random draws."""
    from transformers.utils import chat_template_utils

    # A new one: Transformers keeps its own, which others in this process may use.
    template = inspect.unwrap(chat_template_utils._compile_jinja_template)(source)
    day = datetime.datetime.fromisoformat(date)
    template.environment.globals["strftime_now"] = day.strftime
    template.environment.globals.pop("lipsum", None)
    template.environment.filters.pop("random", None)
    return template


def _render(template: Any, names: dict[str, str], prompt: str, text: str) -> str:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    written: str = template.render(messages=messages, tools=None, documents=None, add_generation_prompt=False, **names)
    return written


def render_messages(tokenizer: Any, date: str, messages: Sequence[Mapping[str, str]], name: str) -> str:
    """A conversation as a model's chat template writes it, up to where the assistant begins its next answer.

    Args:
        tokenizer: a Transformers tokenizer.
        date: what the template gets for today, `YYYY-MM-DD`.
        messages: each with its `role` and `content`.
        name: what to call the model in messages.

    Raises:
        ConfigError: there is no template, it fails, or it does not write what a message says.
    """
    if not tokenizer.chat_template:
        raise ConfigError(f"model {name!r} has no chat template", hint="Leave user=None: it reads plain text.")
    names = {key: str(token) for key, token in tokenizer.special_tokens_map.items()}
    try:
        template = _compile(tokenizer.get_chat_template(), date)
        written: str = template.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, **names
        )
    except Exception as error:
        raise ConfigError(
            f"model {name!r}: its chat template fails: {reason(error)}",
            hint="Its template may know no role 'system': mend its chat_template.jinja, or leave user=None.",
        ) from error
    for message in messages:
        if message["content"].strip() not in written:
            raise ConfigError(
                f"model {name!r}: its chat template does not write what the role {message['role']!r} says",
                hint="Its template may know no such role: mend its chat_template.jinja, or leave user=None.",
            )
    return written
