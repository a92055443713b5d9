"""Distill prompts into metatokens: a generator completes openings under prompts; what it writes is a corpus.

The document is opening and completion, without the prompt. A tag in front of it, the metatoken, comes to stand for the
prompt: context distillation (Snell et al. 2022, 2209.15189; Askell et al. 2021, 2112.00861), with a token for it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate import tally
from annotate.amounts import counted
from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.generators import endings
from annotate.generators.base import NONE, Completions, Generator, Loaded, Request, check_generator
from annotate.graph import Documents, MadeDocuments, Model, Rows, Stage, Tables
from annotate.models.foretold import Foretold
from annotate.stages.shared.conditions import PLAIN, Condition, conditions_of, drawn, named, tags_of
from annotate.stages.shared.openings import Openings, cut, keys_of
from annotate.stages.shared.resources import check_resources
from annotate.stages.shared.tables import chosen
from annotate.storage.contracts import contract
from annotate.storage.manifests import Manifest, Unit
from annotate.storage.parts import UnitOutput
from annotate.storage.store import Directory
from annotate.tags.vocabulary import Tag
from annotate.text.arrays import joined, large_string, one_array, where

FORETOLD = 1000
"""Openings that a plan looks at, at most: their tokens are counted. Few of them are tried."""

TEACHER = ("teacher_tokens", "teacher_top_tokens", "teacher_top_logprobs")
"""Columns that there are only with `top_k`."""


@dataclass(frozen=True)
class Distill(MadeDocuments, Model):
    """Documents that a generator writes under prompts, from openings; a corpus like any other.

        made = Distill(
            Corpus("openings/*.parquet"),
            prompts={"pirate": "You are an old pirate. ..."},
            generator=ServerGenerator("http://localhost:8000/v1", "meta-llama/Llama-3.1-8B"),
        )
        scheme = TagScheme(tags=made.tags())

    Each opening is completed once, under one condition: a prompt, several, or none. One with a problem goes to
    quarantine with its reason: its completion is empty, loops, was refused, or is cut off, if that is not wanted.

    A unit that is committed is never generated again, nor is it with `--rescore`. Until it is committed, what was
    generated for it is lost if the run ends: give `Corpus(unit_bytes=...)` so that a unit has some hundred openings.

    Attributes:
        openings: how the documents begin; a corpus, or another stage that makes documents. Some may be empty.
        prompts: texts by the names of their metatokens.
        generator: what completes them.
        conditions: what documents are generated under: lists of names of prompts, which are put together with a blank
            line between them. `[]` among them is no prompt. None: each prompt alone.
        condition_column: a column of the openings that says under which condition each is completed, as "pirate" or
            "pirate+formal"; null or "no-prompt" for no prompt. None: drawn by a hash, with equal odds.
        opening_characters: openings are cut to so many characters at most, between words. None: the whole text.
        cut_off: what becomes of a completion that is not at its end after max_tokens.
        take: other columns of the openings that travel with the documents.
        seed: of the draw of conditions. Tokens are drawn by the seed of the generator's sampling.
        threads: torch threads of each model, which can change a completion.
        gpus: that each model takes where the cluster has some: 0.5 puts two on a GPU.
    """

    openings: Documents
    prompts: Mapping[str, str] | tuple[tuple[str, str], ...]
    generator: Generator
    conditions: Sequence[Sequence[str]] | tuple[Condition, ...] | None = None
    condition_column: str | None = None
    opening_characters: int | None = None
    cut_off: Literal["keep", "quarantine"] = "keep"
    take: Sequence[str] = ()
    seed: int = 0
    threads: int = 1
    gpus: float = 1.0

    name: ClassVar[str] = "distilled"
    schema: ClassVar[str] = "distilled"
    id: ClassVar[str] = "id"  # type: ignore[misc]

    def __post_init__(self) -> None:
        prompts, conditions = conditions_of(self.prompts, self.conditions)
        check_generator(self.generator)
        take = as_tuple(self.take, "take")
        own = {*contract(self.schema).schema.names, *TEACHER}
        if clash := sorted(own & {*take}):
            raise ConfigError(
                f"take names {clash[0]!r}, a column that generated documents have of their own",
                hint="Give that column of the openings another name.",
            )
        if self.opening_characters is not None and self.opening_characters < 1:
            raise ConfigError(f"opening_characters must be at least 1, got {self.opening_characters}")
        if self.cut_off not in ("keep", "quarantine"):
            raise ConfigError(f'cut_off must be "keep" or "quarantine", got {self.cut_off!r}')
        check_resources(self.threads, self.gpus)
        for name, value in (("prompts", prompts), ("conditions", conditions), ("take", take)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "generator", self.generator.resolved())
        self.generator.check([condition.text for condition in conditions])

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The openings."""
        return {"corpus": self.openings}

    @property
    def unit_bytes(self) -> int | None:  # type: ignore[override]
        """That of the openings."""
        return self.openings.unit_bytes

    @property
    def unit_size(self) -> int:
        """That of the openings."""
        return self.openings.unit_size

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns that are taken along, and the one that names conditions."""
        return (*self.take, *([] if self.condition_column is None else [self.condition_column]))

    def tags(self) -> tuple[Tag, ...]:
        """A tag for each prompt: its metatoken, in front of the documents that were generated under it.

        A document under several prompts has the tags of all of them. Give `Split(made, by="document")`, so that they
        stand once, at the beginning.
        """
        return tags_of(self._prompts, self._conditions)

    @property
    def _prompts(self) -> tuple[tuple[str, str], ...]:
        assert isinstance(self.prompts, tuple)
        return self.prompts

    @property
    def _conditions(self) -> tuple[Condition, ...]:
        return tuple(each for each in self.conditions or () if isinstance(each, Condition))

    @property
    def prompted(self) -> tuple[Condition, ...]:
        """The conditions that have a prompt."""
        return tuple(condition for condition in self._conditions if condition.prompts)

    def settings(self) -> Mapping[str, Any]:
        """The conditions by hashes of their texts, the generator's identity, and what documents are made of."""
        return {
            "conditions": {condition.name: condition.hash for condition in self._conditions},
            "condition_column": self.condition_column,
            "opening_characters": self.opening_characters,
            "cut_off": self.cut_off,
            "take": list(self.take),
            "seed": self.seed,
            "threads": self.threads,
            "id": self.openings.id,
            "generator": self.generator.identity(),
        }

    @property
    def shared(self) -> Hashable:
        """Itself: it runs with no other stage."""
        return self

    def together(self, stages: Sequence[Distill]) -> str:
        """Its label."""
        del stages
        return self.label

    @property
    def gpu(self) -> bool:
        """Whether the generator can use a GPU."""
        return self.generator.gpu

    @property
    def repeatable(self) -> bool:
        """Whether the generator gives the same again. What is paid for is not asked for twice."""
        return self.generator.repeatable

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of a generator that can use a GPU."""
        return ("torch", "transformers") if self.gpu else ()

    def wanted(self, tables: Tables) -> Rows:
        """All rows: one that can't be completed has its problem among what is made."""
        return np.arange(tables.rows.start, tables.rows.stop)

    def prepare(self, tables: Tables, rows: Rows) -> Openings:
        """The openings and conditions of some rows."""
        return self.prepare_without(tables, rows, {})

    def items(self, prepared: Openings) -> int:
        """The requests."""
        return len(prepared.requests) + len(prepared.left_out)

    def prepare_without(self, tables: Tables, rows: Rows, left_out: Mapping[int, str]) -> Openings:
        """The same, without some of the requests."""
        documents = self.openings.reader.documents(
            tables.directory("corpus"), tables.unit("corpus"), extra=self.columns_read
        )
        documents = chosen(documents, np.isin(documents["row"].to_numpy(), rows))
        at, problem = self._choose(documents, tables.shard)
        texts = cut(documents["text"], self.opening_characters)
        able = np.flatnonzero(problem.is_null().to_numpy(zero_copy_only=False))
        keys = keys_of(tables.shard, documents["row"].to_numpy(), at, self._conditions)
        requests = [
            Request(self._conditions[at[i]].text, texts[i].as_py(), int(keys[i]))
            for number, i in enumerate(able.tolist())
            if number not in left_out
        ]
        kept = np.array([number not in left_out for number in range(len(able))], np.bool_)
        return Openings(
            table=documents.select(["row", "id", *self.take]),
            texts=texts,
            condition=at,
            problem=problem,
            asked=able[kept],
            requests=requests,
            left_out={int(able[number]): reason for number, reason in left_out.items()},
        )

    def _choose(self, documents: pa.Table, shard: str) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """The condition of each opening, int64 `[n]`; and its problem, string, null where there is none."""
        problem = one_array(documents["problem"])
        if self.condition_column is None:
            return drawn(self._conditions, self.seed, shard, documents["row"].to_numpy()), problem
        names = large_string(documents[self.condition_column])
        at = named(self._conditions, names.to_pylist())
        unknown = joined(f"the column {self.condition_column} names no condition: ", pc.fill_null(names, PLAIN))
        problem = pc.if_else(pa.array(at >= 0), problem, pc.coalesce(problem, unknown.cast(pa.string())))
        return np.maximum(at, 0), problem

    def foretell(self, workdir: Directory, unit: Unit, device: str) -> Foretold:
        """What the openings of a unit will take, of a large one the first.

        Raises:
            ConfigError: the generator can't be loaded.
        """
        requests = self.first(workdir, unit, FORETOLD)
        read = sum(len(request.opening.encode()) for request in requests)
        return replace(self.generator.foretell(requests, device), opening_bytes=read)

    def first(self, workdir: Directory, unit: Unit, documents: int) -> Sequence[Request]:
        """The requests of the first openings of a unit."""
        rows = np.arange(unit.start, min(unit.stop, unit.start + documents))
        return self.prepare(Tables(self, workdir, {"corpus": unit}, {}), rows).requests

    def load(self, stages: Sequence[Distill], device: str) -> Loaded:
        """Load the generator.

        Raises:
            ConfigError: it can't be.
        """
        del stages
        if self.gpu:
            from annotate.models.device import placed, use_threads

            device = placed(device, self.gpus)
            use_threads(self.threads)
        return self.generator.load(device)

    def forward(
        self, model: Callable[[], Loaded], prepared: Openings, stages: Sequence[Distill], wanted: Sequence[int]
    ) -> Sequence[Completions]:
        """Complete the openings.

        Raises:
            ConfigError: there is another number of completions than of openings.
        """
        del stages
        made = model().complete(prepared.requests) if prepared.requests else NONE
        if len(made.texts) != len(prepared.requests):
            raise ConfigError(
                f"{type(self.generator).__name__} gave {len(made.texts):,} completions of "
                f"{len(prepared.requests):,} requests",
                hint="A generator has to give one for each, None for one that failed.",
            )
        tally.count("tokens", int(made.tokens.sum()))
        return [made] * len(wanted)

    def device_kind(self, model: Loaded) -> str:
        """The kind of device of the model; "server" if it is not here."""
        if model.device is None:
            return "server"
        from annotate.models.device import device_kind

        return device_kind(model.device)

    def finish(self, shard: str, prepared: Openings, result: Completions, device: str, covered: Rows) -> UnitOutput:
        """Put documents together, each with its problem or where it comes from."""
        del shard
        n = prepared.table.num_rows
        completion: list[str | None] = [None] * n
        problem: list[str | None] = prepared.problem.to_pylist()
        for row, reason in prepared.left_out.items():
            problem[row] = reason
        for number, row in enumerate(prepared.asked.tolist()):
            completion[row] = text = result.texts[number]
            keep = self.cut_off == "keep"
            wrong = endings.wrong_with(text, cut_off=bool(result.cut_off[number]), keep_cut_off=keep)
            problem[row] = result.problems.get(number) or wrong
        made = self._table(prepared, result, completion, problem)
        counts = {
            "documents": n,
            "completions": len(prepared.requests),
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": int(result.tokens.sum()),
            "completions cut off": int(result.cut_off.sum()),
            **endings.left_out([problem[row] for row in prepared.asked.tolist()]),
            **result.counts,
        }
        fresh = ~np.isin(prepared.table["row"].to_numpy(), covered)
        return UnitOutput(chosen(made, fresh), counts=counts, notes={"device": device} if device else {})

    def _table(
        self,
        prepared: Openings,
        result: Completions,
        completion: Sequence[str | None],
        problem: Sequence[str | None],
    ) -> pa.Table:
        """The documents. What is left out keeps its row, its condition and its reason."""
        good = pa.array([reason is None for reason in problem])
        texts = joined(prepared.texts, pa.array(completion, pa.large_string()))
        names = [condition.name for condition in self._conditions]
        tokens = [condition.name if condition.prompts else None for condition in self._conditions]
        of = pa.array(prepared.condition)
        ended, sizes = (np.zeros(len(problem), kind) for kind in (np.bool_, np.int32))
        ended[prepared.asked], sizes[prepared.asked] = result.cut_off, result.tokens
        ids = one_array(prepared.table["id"]).cast(pa.large_string())
        model, revision = self.generator.named()
        table = pa.table(
            {
                "row": prepared.table["row"],
                "id": joined(ids, pa.array(names, pa.large_string()).take(of), between=":"),
                "text": where(good, texts),
                "problem": pa.array(problem, pa.string()),
                "metatoken": pa.array(tokens, pa.string()).take(of),
                "opening_end": where(good, pc.utf8_length(prepared.texts).cast(pa.int64())),
                "cut_off": where(good, pa.array(ended)),
                "completion_tokens": where(good, pa.array(sizes)),
                "prompt_hash": pa.array([condition.hash for condition in self._conditions], pa.string()).take(of),
                "generator": pa.array([model] * len(problem), pa.string()),
                "generator_revision": pa.array([revision] * len(problem), pa.string()),
                "sampling": pa.array([self._sampling] * len(problem), pa.string()),
                **self._teacher(prepared, result, problem),
            }
        )
        for name in self.take:
            table = table.append_column(name, prepared.table[name])
        return table

    @functools.cached_property
    def _sampling(self) -> str:
        return json.dumps(dict(self.generator.sampling.identity()), sort_keys=True)

    def _teacher(
        self, prepared: Openings, result: Completions, problem: Sequence[str | None]
    ) -> Mapping[str, pa.Array]:
        """The columns of the teacher's most probable tokens, if they were asked for."""
        if not self.generator.top_k:
            return {}
        columns: dict[str, list[Any]] = {name: [None] * len(problem) for name in TEACHER}
        for number, row in enumerate(prepared.asked.tolist()):
            if problem[row] is None and (teacher := result.teacher.get(number)) is not None:
                found = (teacher.tokens, teacher.top_tokens.ravel(), teacher.top_logprobs.ravel())
                for name, values in zip(TEACHER, found, strict=True):
                    columns[name][row] = values
        kinds = contract(self.schema)
        return {name: pa.array(values, kinds.type_of(name)) for name, values in columns.items()}

    def remarks(self, manifest: Manifest) -> list[str]:
        """Say what was left out and why, what was cut off, and what was tried again."""
        counts, said = manifest.counts, []
        made = counts.get("completions", 0)
        lost = {name: counts.get(endings.LEFT_OUT + name, 0) for name in endings.WORDS.values()}
        said += [f"{n:,} of {made:,} completions are {name}: see quarantine" for name, n in lost.items() if n]
        if n := counts.get(endings.LEFT_OUT + endings.REFUSED, 0):
            said.append(
                f"{counted(n, 'opening')} of {made:,} did not fit, or the server refused or failed: see quarantine"
            )
        if self.cut_off == "keep" and (n := counts.get("completions cut off", 0)):
            most = self.generator.sampling.max_tokens
            said.append(f"{n:,} of {made:,} completions were not at their end after {most:,} tokens, and are kept")
        own = (endings.LEFT_OUT, "completions", "prompt_tokens", "completion_tokens", "documents")
        said += [f"{name}: {n:,}" for name, n in sorted(counts.items()) if not name.startswith(own)]
        kinds = sorted(name.removeprefix("device=") for name in manifest.notes if name.startswith("device="))
        if len(kinds) > 1:
            said.append(f"generated on several kinds of device ({', '.join(kinds)}): equal bytes are not promised")
        return said
