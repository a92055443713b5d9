"""The report of a proof: for programs, for people, and as pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from annotate.amounts import counted
from annotate.pictures import Line, matrix_picture, picture
from annotate.proof.axes import Specificity
from annotate.proof.findings import Proof
from annotate.proof.intervals import LEAST
from annotate.proof.markdown import shown, table
from annotate.proof.measures import OfFamily
from annotate.proof.pairs import OfPair, Recombination
from annotate.proof.written_report import persistence_lines, written_lines, written_picture

JSON = "proof.json"
TEXT = "proof.md"


def write_report(proof: Proof, folder: Path) -> None:
    """Write `proof.json`, `proof.md`, and the pictures."""
    (folder / JSON).write_text(json.dumps(proof.as_json(), indent=1) + "\n", "utf-8")
    (folder / TEXT).write_text(as_text(proof), "utf-8")
    for name, content in pictures(proof).items():
        (folder / name).write_text(content, "utf-8")


def pictures(proof: Proof) -> dict[str, str]:
    """SVG by file name: learning curves of the arms, the swap gap of each family over the steps, the specificity."""
    curves = {name: Line(values=values) for name, values in proof.curves.items()}
    made = {"learning.svg": picture("Loss on held-out text", "nats a token", proof.steps, curves)}
    for k, family in enumerate(proof.families):
        lines = {
            name: Line(
                values=[getattr(step, name).value for step in family.steps],
                low=[getattr(step, name).low for step in family.steps],
                high=[getattr(step, name).high for step in family.steps],
            )
            for name in ("true", "shuffled")
        }
        title = f"Swap gap of {_tags(family)}"
        made[f"sharpening{f'-{k}' if k else ''}.svg"] = picture(title, "nats a span", proof.steps, lines)
    if proof.specificity is not None:
        made["specificity.svg"] = matrix_picture(
            "What each tag tells of each",
            "AUROC, less 0.5, of the likelihood ratio of the tag on the left as a classifier of the tag above",
            _names(proof),
            proof.specificity.matrix.tolist(),
            top=0.5,
        )
    if proof.judged is not None:
        made["written.svg"] = written_picture(proof.judged)
    return made


ABOUT_GAPS = """Swap gap in nats a span; accuracy is the share of spans that are likelier under their own tag, each
tag weighted alike. In parentheses: the control with shuffled tags."""
ABOUT_TAGS = """`shows`: the smallest gap that so many documents show. `bag of words`: AUROC at equal length of a model
that knows only how often each token occurs under each tag."""
ABOUT_SPECIFICITY = """AUROC, less 0.5, of the likelihood ratio of the tag on the left as a classifier of the tag
above. In parentheses: correlation of the two tags in held-out text."""
ABOUT_PAIRS = """What both tags of a span do to the logits of its tokens, against the sum of what each does alone. R²: 1
if the effects add up. Two tags that tell the same thing, once, have R² 0 and cosine 1: so do tags that only tell that a
span begins. That is told at the first token; `behind it` leaves the first out. The null is not 0, but what the control
has: where effects are noise, both tags and the sum share what each does alone, so behind the first token R² is usually
below 0 and the cosine well above it. `-`: fewer than {} documents."""
ABOUT_RECOMBINATION = """The swap gap of each tag on spans that have both, nats a span, of the models of seed 0; the
intervals are of documents only. In training of the arm `held-out pair`, spans that have both lose one of the two, by a
hash."""
ABOUT_COST = "Nats a token that models trained with tags lose on text without, against a model that never saw any."
ABOUT_ALL = """Values in brackets are 95 % intervals: of documents, by a bootstrap, and of seeds where there are
several."""


def as_text(proof: Proof) -> str:
    """The report in Markdown."""
    answers = {True: "yes", False: "no", None: "could not be measured"}
    lines = ["# Were the tags learned?", ""]
    lines += [f"- **<{each.tag}>: {each.outcome}.** {each.reason}" for each in proof.verdicts]
    lines += ["", *table("to be shown", "", "")]
    lines += [f"| {gate.what} | {answers[gate.passed]} | {gate.figure} |" for gate in proof.gates]
    for family in proof.families:
        lines += ["", *_family(family)]
    if proof.specificity is not None:
        lines += ["", *_specificity(proof, proof.specificity)]
    if proof.pairs:
        lines += ["", *_pairs(proof.pairs)]
    if proof.recombination is not None:
        lines += ["", *_recombination(proof.recombination)]
    lines += ["", "## Cost to untagged text", "", ABOUT_COST, ""]
    lines += [f"- all spans: {shown(proof.cost.all_spans, 4)}"]
    lines += [f"- first spans of documents: {shown(proof.cost.first_spans, 4)}"]
    lines += [f"- compared: {counted(proof.cost.seeds, 'pair')} of models of equal seed. {_of_what(proof.cost.seeds)}"]
    if proof.in_part:
        lines += ["", "## Tags in a part of training", "", *table("arm", "swap gap, nats a span")]
        lines += [f"| {each.arm} | {', '.join(shown(gap) for gap in each.gaps)} |" for each in proof.in_part]
    if proof.judged is not None:
        lines += ["", *written_lines(proof.judged)]
    if proof.persistence is not None:
        lines += ["", *persistence_lines(proof.persistence)]
    lines += ["", "## What this is", "", *(f"- {remark}" for remark in proof.remarks), "", *table("", "")]
    lines += [f"| {name} | {_value(value)} |" for name, value in proof.about.items()]
    return "\n".join([*lines, "", ABOUT_ALL, ""])


def _of_what(seeds: int) -> str:
    """What an interval is of."""
    if seeds == 1:
        return "The intervals are of documents only: another seed may give a value outside"
    return f"The intervals are of documents and of {seeds} seeds"


def _family(family: OfFamily) -> list[str]:
    lines = [f"## {_tags(family)}", "", ABOUT_GAPS, ""]
    lines += table("step", "swap gap", "control", "true less shuffled", "accuracy", "AUROC")
    for at in family.steps:
        lines.append(
            f"| {at.step:,} | {shown(at.true)} | {shown(at.shuffled)} | {shown(at.difference)} | {at.accuracy:.3f} "
            f"({at.accuracy_shuffled:.3f}) | {at.auroc:.3f} ({at.auroc_shuffled:.3f}) |"
        )
    lines += ["", *_gains(family)]
    if family.sharpening is not None and family.control is not None:
        sharp = family.sharpening
        lines += [
            f"- true less shuffled, for each doubling of steps: {shown(sharp.per_doubling)}; last less first: "
            f"{shown(sharp.last_less_first)}; correlation of ranks with the steps: {sharp.spearman:+.2f}",
            f"- the control, for each doubling of steps: {shown(family.control.per_doubling)}",
        ]
    less = "less that by tags drawn by their shares (0 is expected)"
    lines += [f"- swap gap by tags of other spans, {less}: {shown(family.random_tags)}", ""]
    above, length = "gap above control", "equal length"
    lines += table("tag", "spans", above, "shows", "AUROC", "a token", length, "bag of words", "above it")
    for of in family.of_tags:
        ratios = [f"{each.true:.3f} ({each.shuffled:.3f})" for each in (of.auroc, of.per_token, of.matched)]
        lines.append(
            f"| <{of.name}> | {of.spans:,} | {shown(of.gap)} | {of.shows:.3f} | {' | '.join(ratios)} | "
            f"{of.bag_of_words:.3f} | {shown(of.above_bag_of_words)} |"
        )
    return [*lines, "", ABOUT_TAGS]


def _gains(family: OfFamily) -> list[str]:
    """The gain at the last checkpoint, if it was measured."""
    at, bound = family.steps[-1], f"the bound: {family.entropy:.3f} nats, H(Y) of the tags"
    if at.gain is None or at.gain_shuffled is None or at.gain_difference is None:
        return ["- gain over no tag: not measured, since models have not seen spans that lost their tag by chance"]
    return [
        f"- gain over no tag: {shown(at.gain)}, of the control {shown(at.gain_shuffled)}, which is what a tag tells "
        f"by standing there; true less shuffled {shown(at.gain_difference)}, {at.share_of_bound:.1%} of {bound}"
    ]


def _specificity(proof: Proof, found: Specificity) -> list[str]:
    names = _names(proof)
    lines = ["## What each tag tells of each", "", ABOUT_SPECIFICITY, "", *table("", *names)]
    for name, row, together in zip(names, found.matrix, found.corpus, strict=True):
        cells = [f"{value:+.3f} ({other:+.2f})" for value, other in zip(row, together, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    said = {
        True: "Each tag tells most of itself.",
        False: "NOT each tag tells most of itself.",
        None: "Whether each tag tells most of itself could not be measured.",
    }
    return [*lines, "", said[found.diagonal]]


def _pairs(pairs: Sequence[OfPair]) -> list[str]:
    lines = ["## Two tags together", "", ABOUT_PAIRS.format(LEAST), ""]
    lines += table("tags", "spans", "documents", "arm", "R²", "cosine", "R², behind it", "cosine, behind it")
    for pair in pairs:
        for at in (*pair.arms, *([pair.above_control] if pair.above_control is not None else [])):
            both, rest = at.all_tokens, at.behind_first
            values = " | ".join(shown(each) for each in (both.r2, both.cosine, rest.r2, rest.cosine))
            lines.append(f"| {_both(pair.tags)} | {pair.spans:,} | {pair.documents:,} | {at.arm} | {values} |")
    return lines


def _recombination(found: Recombination) -> list[str]:
    lines = [f"## {_both(found.tags)} never together in training", "", ABOUT_RECOMBINATION, ""]
    both = f"{counted(found.spans, 'measured span')} in {counted(found.documents, 'document')} with both"
    lines += [f"- {found.trained:,} spans of training lost one; {both}", ""]
    lines += table("tag", "held-out pair", "true", "control", "held-out pair less control", "true less held-out pair")
    for of in found.of_tags:
        gaps = of.held_out, of.true, of.shuffled, of.above_control, of.lost
        lines.append(f"| <{of.tag}> | {' | '.join(shown(gap) for gap in gaps)} |")
    said = {
        True: "Each of the two tags works beside the other, though the model never saw them together.",
        False: "NOT shown: that each of the two tags works beside the other, if the model never saw them together.",
        None: f"{LEAST} documents that have both tags are needed: nothing could be measured.",
    }
    return [*lines, "", said[found.recombined]]


def _both(tags: tuple[str, str]) -> str:
    return f"<{tags[0]}> and <{tags[1]}>"


def _tags(family: OfFamily) -> str:
    return " ".join(f"<{name}>" for name in family.tags)


def _names(proof: Proof) -> list[str]:
    """All tags, in the order of the families."""
    return [f"<{name}>" for family in proof.families for name in family.tags]


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)
