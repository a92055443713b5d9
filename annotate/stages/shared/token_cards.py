"""What is said beside token shards: of each tag in `tags.json`, and of the shards in their data card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from annotate.stages.place import Place
from annotate.tags.conditions import Quantile
from annotate.tags.layouts import LAYOUTS
from annotate.tags.vocabulary import shown_name

if TYPE_CHECKING:
    from annotate.stages.token_shards import TokenShards


def about_tags(places: Sequence[Place], whole: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """What `tags.json` says of each tag besides its ids.

    Args:
        places: the placements, from the outermost to the innermost.
        whole: the thresholds of each, as `thresholds-<number>`.
    """
    about = {name: said for i, place in enumerate(places) for name, said in meanings(place, whole[f"thresholds-{i}"])}
    for name, layout in _layouts(places):
        about[name] = {**about.get(name, {}), **layout}
    return about


def aliases(places: Sequence[Place]) -> dict[str, list[str]]:
    """The tags that each alias stands for, where it is written out."""
    return {
        alias.name: [shown_name(name, place.scheme.control) for name in place.scheme.meant(alias.name)]
        for place in places
        for alias in place.scheme.aliases
        if alias.expand
    }


def data_card(stage: TokenShards, tokenizer: str, counts: Mapping[str, int]) -> str:
    """The shards, their tags, and the models that scored, in Markdown.

    Args:
        stage: the shards.
        tokenizer: its hash.
        counts: those of the shards.
    """
    from annotate.tags.in_words import explain
    from annotate.tokens import ALIGNMENT

    places = stage.placements.places
    scorers = {json.dumps(score.settings(), sort_keys=True): score for p in places for score in p.scores}
    lines = [
        "# Token shards",
        "",
        f"{counts.get('windows', 0):,} windows of {stage.window} tokens, {counts.get('tokens', 0):,} tokens,",
    ]
    lines += [f"{counts.get('targets', 0):,} of them targets, of {counts.get('written', 0):,} documents.", ""]
    lines += [f"- mask: {ALIGNMENT}; loss policy `{stage.loss}`", f"- packing: {stage.packing}"]
    lines += [f"- tokenizer: SHA-256 {tokenizer}, with the tags in `tokenizer/`"]
    if stage.top_k:
        lines += [
            f"- teacher: the {stage.top_k} most probable tokens in the place of each token of a completion, "
            "`teacher_top_tokens` and `teacher_top_logprobs`"
        ]
    lines += ["", "## Tags", ""]
    lines += [f"- {line}" for place in places for line in explain(place.scheme)]
    lines += ["", "## Scores", ""]
    lines += [f"- {', '.join(score.axes)}: `{identity}`" for identity, score in sorted(scorers.items())]
    return "\n".join(lines) + "\n"


def _layouts(places: Sequence[Place]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The layout of each tag, for `tags.json`, and whether the tag is repeated at each (innermost) span."""
    for place in places:
        for family, names in place.scheme.names_by_family:
            again = place is places[-1] and LAYOUTS[family.layout].every_span
            for name in names:
                yield shown_name(name, place.scheme.control), {"layout": family.layout, "every_span": again}


def meanings(place: Place, thresholds: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entry of each tag of a scheme in `tags.json`."""
    fitted: dict[Quantile, list[dict[str, Any]]] = {}
    for row in thresholds.to_pylist():
        group = dict(row.get("group", []))
        said = {"axis": row["axis"], "q": row["quantile"], **({"group": group} if group else {})}
        said |= {name: row[name] for name in ("value", "n", "ties")}
        fitted.setdefault(Quantile(row["axis"], row["quantile"], tuple(group)), []).append(said)
    shown = dict(zip(place.scheme.names, place.scheme.shown, strict=True))
    for tag in place.scheme.tags:
        found = [said for quantile in tag.parsed.quantiles for said in fitted.get(quantile, [])]
        yield shown[tag.name], {"meaning": tag.means or None, "rule": tag.rule, "threshold": found or None}
