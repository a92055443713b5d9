"""A golden file that a person can read: where tags stand among the tokens of each family, and how windows are cut.

Write it anew with `python tests/tokens/test_tokens_golden.py`, and look at what has changed.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from token_families import FAMILIES, encoder, tagged
from token_reference import placement_table, span_table

from annotate.tokens import insert, loss_mask, pack
from annotate.tokens.kinds import OPEN, PADDING, REPEATED

GOLDEN = Path(__file__).parent / "golden.txt"

# `[nice]` opens a tag, `[/plain]` closes one; a bar ends a span.
SAMPLES = (
    "[nice]It was the best of times;| it was the worst of times.",
    "It was the best of times;|[nice] it was the [plain]worst| of[/plain] times.",
    "[nice][tone]The fo|[plain]x jumps[/plain] over the dog.\n\n|[tone]Yes. Really.\n|",
    "def add(a, b):\n|[nice]    return a + b\n",
    "[nice]Über die Brücke.|[plain] ¿Cómo estás?[/plain]",
    "[nice]今日は天気がいいですね。|[plain]明日も晴れる[/plain]でしょう。",
    "[nice]a <nice> day</plain>|[tone] <|endoftext|>",
    "🙂|[tone]👍🏽 ﬁne",
)


def parse(sample: str) -> tuple[str, pa.Table, pa.Table]:
    """The text, its placements and its spans."""
    text, placements, cuts = "", [], [0]
    at = 0
    while at < len(sample):
        here = len(text.encode())
        if sample[at] == "|" and not sample[at:].startswith("|endoftext|") and not text.endswith("<|endoftext"):
            cuts.append(here)
            at += 1
        elif sample[at] == "[":
            name = sample[at + 1 : sample.index("]", at)]
            placements.append((0, here, name.removeprefix("/"), "close" if name.startswith("/") else "open"))
            at += len(name) + 2
        else:
            text += sample[at]
            at += 1
    edges = sorted({*cuts, len(text.encode())})
    spans = [(0, a, b) for a, b in pairwise(edges)]
    return text, placement_table(placements), span_table(spans)


def drawn(name: str, ids: np.ndarray, kinds: np.ndarray) -> str:
    """Tokens as the tokenizer spells them, blanks between them; a repeated tag has a plus before it."""
    backend = tagged(name)[0].backend_tokenizer
    pieces = []
    for i, kind in zip(ids.tolist(), kinds.tolist(), strict=True):
        piece = "_" if kind == PADDING else backend.id_to_token(i).replace("\n", "⏎")
        pieces.append(f"+{piece}" if kind == REPEATED else piece)
    return " ".join(pieces)


def lines() -> list[str]:
    """The whole file."""
    shown = [
        "Where tags stand among tokens. A sample: `[nice]` opens a tag, `[/plain]` closes one, a bar ends a span.",
        "Below it the tokens of each family as the tokenizer spells them, and each token's span.",
        "",
    ]
    for sample in SAMPLES:
        text, placements, spans = parse(sample)
        shown += [sample.replace("\n", "⏎"), ""]
        for name in FAMILIES:
            encoded = encoder(name).encode(pa.array([text]))
            made = insert(encoded, pa.array([text]), placements, tagged(name)[1], spans=spans)
            moved = f"   moved: {made.moved}" if made.moved else ""
            shown.append(f"  {name:<18}{drawn(name, made.ids, made.kinds)}{moved}")
            shown.append(f"  {'':<18}{''.join('-' if span < 0 else str(span) for span in made.spans)}")
        each = encoder("byte-level").encode_segments(pa.array([text]), spans)
        made = insert(each, pa.array([text]), placements, tagged("byte-level")[1])
        shown += [f"  {'per segment':<18}{drawn('byte-level', made.ids, made.kinds)}", ""]
    shown += ["Windows of 16 tokens, of the first four samples with an end token; below each its loss mask.", ""]
    parsed = [parse(sample) for sample in SAMPLES[:4]]
    texts = pa.array([text for text, _, _ in parsed])
    placements, spans = (
        pa.concat_tables(
            [t.set_column(0, "row", pa.array(np.full(len(t), row))) for row, t in enumerate(tables)]
        ).unify_dictionaries()
        for tables in zip(*[(p, s) for _, p, s in parsed], strict=True)
    )
    made = insert(
        encoder("byte-level").encode(texts), texts, placements, tagged("byte-level")[1], spans=spans, end_id=3
    )
    for way in ("best-fit", "concatenate"):
        packed = pack(made, 16, pad_id=0, way=way, tolerance=4)
        masks = {policy: loss_mask(packed, policy) for policy in ("train", "mask", "mask-all-but-closing")}
        shown.append(f"{way}: {packed.filled_share:.3f} filled, {packed.cuts} cuts, {packed.cuts_at_spans} at spans")
        for row in range(len(packed.ids)):
            shown.append(f"  {'':<24}{drawn('byte-level', packed.ids[row], packed.kinds[row])}")
            shown += [f"    {policy:<22}{''.join(map(str, mask[row].tolist()))}" for policy, mask in masks.items()]
        shown.append("")
    return shown


def test_the_golden_file():
    assert lines() == GOLDEN.read_text("utf-8").split("\n")[:-1]


def test_samples_have_all_that_the_file_is_to_show():
    parsed = [parse(sample) for sample in SAMPLES]
    assert any(len(spans) > 2 for _, _, spans in parsed)
    assert {kind for _, placements, _ in parsed for kind in placements["kind"].to_pylist()} == {"open", "close"}
    text, placements, _ = parsed[2]
    made = insert(encoder("wordpiece").encode(pa.array([text])), pa.array([text]), placements, tagged("wordpiece")[1])
    assert made.moved == 1
    assert (made.kinds == OPEN).sum() == 4


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(lines()) + "\n", "utf-8")
