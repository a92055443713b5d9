"""How tags stand in token shards, and texts that are tagged in the same way."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.storage.results import read_tags
from annotate.tags.layouts import LAYOUTS
from annotate.text.splitting import Splitter
from annotate.tokens import TaggedTokens, TagVocabulary, TextTokenizer, TokenizedTexts, check_ids, insert

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """How the tags of token shards stand in them.

    Attributes:
        vocabulary: the tags and their ids.
        aliases: the tags that each alias stands for.
        every_span: the tags that stand again at each span. The others stay in force, or are of larger spans.
        not_before: by name, the layout of each tag that stands after its span, or inside it.
        splitter: how the documents of the shards were cut into spans; None where a span is a document, or a window of
            tokens.
        windows: whether a span is a window of tokens. Where these begin can't be told without the tokenizer that they
            were cut by, which is not part of the shards.
        segments: whether each span was tokenized by itself.
        begin_id: the id of a token before each document, or None.
        end_id: the id of a token after each document, or None.
        pad_id: the id that fills up a batch.
        loss: the loss policy of the shards, which says whether tags were targets.
        encoder: tokenizes texts.
    """

    vocabulary: TagVocabulary
    aliases: Mapping[str, Sequence[str]]
    every_span: frozenset[str]
    not_before: Mapping[str, str]
    splitter: Splitter | None
    windows: bool
    segments: bool
    begin_id: int | None
    end_id: int | None
    pad_id: int
    loss: str
    encoder: TextTokenizer

    @staticmethod
    def read(tokenizer: Any, folder: str | PathLike[str]) -> Trained:
        """Read `tags.json`.

        Args:
            tokenizer: the one that lies beside the shards.
            folder: what `annotate.tags_folder` gives.

        Raises:
            ConfigError: the tokenizer has other ids for the tags, or the file is of an older version.
            StorageError: there is none.
        """
        card = read_tags(folder)
        check_ids(card, tokenizer)
        tags, shards = card["tags"], card["shards"]
        if "splitter" not in shards:
            raise ConfigError(
                f"{folder}/tags.json does not say how tags stand in the shards: an older version wrote it",
                hint="Run the pipeline again: it makes the shards anew, of the scores that there are.",
            )
        return Trained(
            vocabulary=TagVocabulary(
                names=tuple(tag["name"] for tag in tags),
                open_ids=tuple(tag["id"] for tag in tags),
                close_ids=tuple(-1 if tag["closing_id"] is None else tag["closing_id"] for tag in tags),
            ),
            aliases=card["aliases"],
            every_span=frozenset(tag["name"] for tag in tags if tag["every_span"]),
            not_before={tag["name"]: tag["layout"] for tag in tags if LAYOUTS[tag["layout"]].in_force == "nowhere"},
            splitter=None if shards["splitter"]["by"] in ("tokens", "document") else Splitter(**shards["splitter"]),
            windows=shards["splitter"]["by"] == "tokens",
            segments=shards["segments"],
            begin_id=shards["begin_id"],
            end_id=shards["end_id"],
            pad_id=shards["pad_id"],
            loss=shards["loss"],
            encoder=_encoder(tokenizer, len(tokenizer)),
        )

    def check_rows(self, model: Any) -> None:
        """Refuse a model that has no rows for the tags: it would end in an error of torch's.

        Raises:
            ConfigError: it has none.
        """
        rows = model.get_input_embeddings().weight.shape[0]
        if rows <= max(self.vocabulary.ids):
            raise ConfigError(
                f"the model has {rows} rows in its embedding, and none for the tags",
                hint="annotate.training.add_tag_embeddings(model, tokenizer, folder) adds them, before training.",
            )

    def named(self, tags: str | Sequence[str]) -> tuple[str, ...]:
        """The tags that some names stand for, of tags and of aliases, in the order in which the shards have them.

        Raises:
            ConfigError: a name is not known, or its tag never stands before text.
        """
        names = self.known(tags)
        for name in sorted(set(names) & set(self.not_before)):
            stand_before = [name for name, layout in LAYOUTS.items() if layout.in_force != "nowhere"]
            raise ConfigError(
                f"tag {name!r} has the layout {self.not_before[name]!r}: no text of the shards begins with it",
                hint=f"Text can be written under tags of the layouts {', '.join(stand_before)}.",
            )
        return names

    def known(self, tags: str | Sequence[str]) -> tuple[str, ...]:
        """The tags that some names stand for, as `named`; they may stand anywhere.

        Raises:
            ConfigError: a name is not known.
        """
        given = [tags] if isinstance(tags, str) else tags
        names = {name for tag in given for name in self.aliases.get(tag, [tag])}
        known = self.vocabulary.names
        for name in sorted(names - set(known)):
            raise ConfigError(f"there is no tag {name!r}; tags: {', '.join([*known, *self.aliases])}")
        return tuple(name for name in known if name in names)

    @property
    def between(self) -> list[int]:
        """The ids of all tags that may stand between two spans, closing tags too."""
        known = self.vocabulary
        tags = zip(known.names, known.open_ids, known.close_ids, strict=True)
        return [i for name, *ids in tags if name in self.every_span for i in ids if i >= 0]

    def again(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """The ids that stand between two spans under these tags: those of closing tags, and those of tags."""
        between = self._between(names)
        closing, opening = ([self.vocabulary.id_of(*tag) for tag in between if tag[1] == k] for k in ("close", "open"))
        return closing, opening

    def encode(self, texts: Sequence[str], names: Sequence[str], *, every_span: bool) -> tuple[TaggedTokens, pa.Table]:
        """Tokenize texts, each under the same tags.

        Args:
            texts: beginnings of documents. Tags of their last spans are not closed.
            names: tags, from `named`.
            every_span: whether tags that stand at every span in the shards do so here. Else all stand at the start.

        Returns:
            The tokens, and the spans of the texts, as `Splitter.split` gives them. Without `every_span`, or without a
            splitter, each text is one span.

        Raises:
            ConfigError: tags stand at every span, and spans are windows of tokens.
        """
        again = [name for name in names if name in self.every_span]
        if every_span and self.windows and again:
            raise ConfigError(
                f"in the shards <{again[0]}> stands before every window of some tokens of a document; "
                "where such windows begin in this text is not known",
                hint='prompt(..., later="none") puts tags at the start of the text alone, which is not what the model '
                "was trained on. Likelihoods need shards that are split by sentence, line, paragraph or document.",
            )
        array = pa.array(texts, pa.large_string())
        splitter = self.splitter if every_span and self.splitter is not None else Splitter(by="document")
        spans = _begun(splitter, texts)
        spans = spans.append_column("row", spans["document"])
        encoded = self.encoder.encode_segments(array, spans) if self.segments else self.encoder.encode(array)
        placements = self._placements(encoded, spans, names)
        return insert(encoded, array, placements, self.vocabulary, spans=spans), spans

    def _placements(self, encoded: TokenizedTexts, spans: pa.Table, names: Sequence[str]) -> pa.Table:
        """All tags before the first span of a text; before each other span, the tags that stand again."""
        row, start = spans["row"].to_pylist(), spans["byte_start"].to_pylist()
        at = [(k, 0, name, "open") for k in range(len(encoded.documents) - 1) for name in names]
        at += [(k, i, *tag) for k, i in zip(row, start, strict=True) if i for tag in self._between(names)]
        at.sort(key=lambda placed: placed[:2])
        columns = list(zip(*at, strict=True)) or [(), (), (), ()]
        types = (pa.int64(), pa.int64(), pa.string(), pa.string())
        arrays = [pa.array(list(values), kind) for values, kind in zip(columns, types, strict=True)]
        return pa.table(arrays, names=["row", "byte_offset", "tag", "kind"])

    def _between(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """What stands between two spans under the tags: names of tags, and whether they close or open."""
        closing = dict(zip(self.vocabulary.names, self.vocabulary.close_ids, strict=True))
        opened = [name for name in names if name in self.every_span]
        closed = [name for name in reversed(opened) if closing[name] >= 0]
        return [*((name, "close") for name in closed), *((name, "open") for name in opened)]


def filler(splitter: Splitter) -> str:
    """Letters to stand for what follows a text: enough that its last span is not too short to be a span.

    At least two, as a colon begins a list item before two letters.
    """
    return "b" * max(2, splitter.limits[0] + 1)


def _begun(splitter: Splitter, texts: Sequence[str]) -> pa.Table:
    """The spans of texts that go on: the last is split as if more letters followed. Blanks at its end begin none."""
    more = filler(splitter)
    spans = splitter.split(pa.array([text + more for text in texts], pa.large_string()))
    document = spans["document"].to_numpy()
    start = spans["byte_start"].to_numpy()
    words = np.array([len(text.rstrip().encode()) for text in texts])
    sizes = np.array([len(text.encode()) for text in texts])
    kept = ((start < words[document]) | (start == 0)) & (start < sizes[document])
    spans = spans.filter(pa.array(kept)).select(["document", "byte_start"])
    document, start = spans["document"].to_numpy(), spans["byte_start"].to_numpy()
    last = np.append(document[1:] != document[:-1], np.ones(min(len(document), 1), bool))
    ends = np.where(last, sizes[document], np.append(start[1:], 0))
    return spans.append_column("byte_end", pa.array(ends, pa.int64()))


@functools.lru_cache(maxsize=4)
def _encoder(tokenizer: Any, size: int) -> TextTokenizer:
    """Parse a tokenizer, once for many prompts. `size` is part of the key: with more tokens it is another tokenizer."""
    del size
    return TextTokenizer(tokenizer)
