"""What a teacher wrote in distilled documents, and thought of it, on the way to token shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import text_buffers
from annotate.errors import ConfigError
from annotate.graph import Documents
from annotate.stages.distill import TEACHER, Distill
from annotate.stages.shared.selection import SelectedDocuments
from annotate.text.arrays import large_string, one_array, where
from annotate.text.utf8 import byte_offsets, code_point_offsets

if TYPE_CHECKING:
    from annotate.tokens import TeacherTokens

COLUMNS = (*TEACHER, "opening_end")
"""The columns of distilled documents that are read."""
BEGIN = "completion_begin"
"""The column of the byte at which a completion begins."""


def teacher_of(documents: Documents) -> Distill:
    """The stage that has written documents, with the teacher's most probable tokens.

    Raises:
        ConfigError: they are no such documents.
    """
    if not isinstance(documents, Distill) or not documents.generator.top_k:
        raise ConfigError(
            "teacher=True is for documents of a Distill whose generator keeps the teacher's most probable tokens",
            hint="Write Distill(..., generator=TransformersGenerator(..., top_k=20)), or leave teacher=True out.",
        )
    return documents


def check_vocabulary(documents: Distill, tokenizer: Any, name: object) -> None:
    """Check that each id of the teacher's tokenizer is the same token for the tokenizer of the shards.

    Args:
        documents: what the teacher wrote.
        tokenizer: that of the shards, without tags.
        name: its name, for the message.

    Raises:
        ConfigError: one is another token.
    """
    from annotate.tokens.tokenizer import backend_of

    teacher = documents.generator.tokenizer()
    theirs = backend_of(teacher).get_vocab(with_added_tokens=True)
    own = backend_of(tokenizer).get_vocab(with_added_tokens=True)
    if theirs.items() <= own.items():
        return
    token, i = min(theirs.items() - own.items(), key=lambda one: one[1])
    there = f"has id {own[token]} for it" if token in own else "does not have it"
    raise ConfigError(
        f"the teacher's probabilities are of other tokens than those of the tokenizer {str(name)!r}: id {i} of the "
        f"generator's tokenizer is {token!r}, and this one {there}",
        hint="Give TokenShards the tokenizer of the generator, "
        f"{getattr(teacher, 'name_or_path', '') or documents.generator.named()[0]!r}, or leave teacher=True out.",
    )


def teacher_columns(documents: SelectedDocuments) -> tuple[dict[str, pa.Array], int]:
    """The columns of documents that their part needs of the teacher, and how many documents have nothing in them.

    A document of which spans are left out has none: the teacher read them.
    """
    table = documents.table
    texts = large_string(table["text"])
    there = table[TEACHER[0]].is_valid().to_numpy()
    if documents.gaps is not None:
        there[documents.gaps["row"].to_numpy()] = False
    begins = np.where(there, table["opening_end"].fill_null(0).to_numpy(), 0)
    columns = {name: where(pa.array(there), one_array(table[name])) for name in TEACHER}
    return {**columns, BEGIN: pa.array(_bytes_at(texts, begins))}, int((~there).sum())


def teacher_tokens(rows: pa.Table, k: int) -> TeacherTokens:
    """What these columns say, of the documents of a part."""
    from annotate.tokens import TeacherTokens

    tokens, top_tokens, top_logprobs = (one_array(rows[name]) for name in TEACHER)
    return TeacherTokens.of(tokens, top_tokens, top_logprobs, rows[BEGIN].to_numpy(), k)


def teacher_remarks(counts: Mapping[str, int]) -> list[str]:
    """What token shards have no probabilities of the teacher for, of what it wrote."""
    said = []
    if lost := counts.get("documents_without_teacher", 0):
        said.append(f"{lost:,} documents have no teacher probabilities: spans of them are left out, or it gave none")
    if lost := counts.get("completion_tokens_without_teacher", 0):
        of = counts["completion_tokens"]
        said.append(
            f"{lost:,} of {of:,} tokens of completions ({lost / of:.1%}) have no teacher probabilities: no token of "
            "the teacher begins where they do, or it wrote bytes that are no character"
        )
    if lost := counts.get("completion_ends_without_teacher", 0):
        said.append(
            f"{lost:,} of {counts['completion_ends']:,} ends of completions have no teacher probabilities: the teacher "
            "ended them with another token than stands after documents, or with bytes that are no character"
        )
    return said


def _bytes_at(texts: pa.LargeStringArray, code_points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The byte of each text at which a code point of it begins: int64 `[n]`."""
    data, starts = text_buffers(texts)
    used, origin = data[starts[0] : starts[-1]], starts[:-1] - starts[0]
    return byte_offsets(used, code_point_offsets(used, origin) + code_points) - origin
