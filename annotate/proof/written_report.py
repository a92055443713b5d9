"""What a report says of the texts that were written under tags, and of more training without tags."""

from __future__ import annotations

from annotate.pictures import Line, dots_picture
from annotate.proof.generation import DoseResponse
from annotate.proof.intervals import Interval
from annotate.proof.judged import HIGHEST_OF, Judged, JudgedFamily
from annotate.proof.markdown import shown, table
from annotate.proof.persistence import Left, Persistence
from annotate.proof.texts import TEMPERATURE, TOP_P

ABOUT_WRITTEN = """The judge's mean score of texts under a tag, less that under the other tags of its family, or under
none if there is no other. `corpus`: the same of held-out spans, cut to the length of the texts. `share`: of the models
with true tags, of that of the corpus; it has no interval of its own. Texts are drawn at temperature {}, top-p {}, and
the corpus is not: an ideal model may have less than 100 %, or more, so the share does not say how much was learned. Of
a family of two tags, a judge with one score for both, or with opposite ones as the bag of words, gives both rows from
the same comparison: they are one finding. `best of {}`: the expected highest score of so
many texts under the tag; in parentheses, of the control."""
ABOUT_DOSE = """The tags are taken as grades, in the order of the scheme. If they are none, this says nothing."""
ABOUT_PERSISTENCE = """The model with true tags of seed 0 was trained on for {:,} steps without tags, with a new
optimizer and at most a quarter of the learning rate, on the text that it was trained on, in another order unless its
windows are in phases. Intervals are of documents, and of texts: one model."""


def written_lines(found: Judged) -> list[str]:
    """The section on texts, in Markdown."""
    lines = [
        "## Texts written under tags",
        "",
        f"Judge: {found.judge}. {found.texts:,} texts of {found.tokens} tokens ",
    ]
    lines[-1] += "at most, under each tag, of each model; of each text the first token was given."
    lines += ["", ABOUT_WRITTEN.format(TEMPERATURE, TOP_P, HIGHEST_OF), ""]
    lines += table("tag", "true", "control", "true less shuffled", "corpus", "share", f"best of {HIGHEST_OF}")
    for family in found.families:
        for tag in family.tags:
            best = [_number(each) for each in (tag.highest, tag.highest_shuffled)]
            values = [shown(each) for each in (tag.true, tag.shuffled, tag.difference, tag.corpus)]
            share = "-" if tag.fidelity is None else f"{tag.fidelity:.0%}"
            lines.append(f"| <{tag.name}> | {' | '.join(values)} | {share} | {best[0]} ({best[1]}) |")
    for family in found.families:
        if family.dose is not None and family.dose_shuffled is not None:
            lines += ["", *_dose(family, family.dose, family.dose_shuffled)]
    return lines


def _dose(family: JudgedFamily, dose: DoseResponse, control: DoseResponse) -> list[str]:
    lines = [f"### Grades {' '.join(f'<{tag.name}>' for tag in family.tags)}", "", ABOUT_DOSE, ""]
    lines += table("mean score under", "true", "control", "corpus")
    for grade, tag in enumerate(family.tags, start=1):
        means = [_number(each.get(grade)) for each in (dose.generated, control.generated, dose.corpus)]
        lines.append(f"| <{tag.name}> | {' | '.join(means)} |")
    lines += ["", f"- correlation of the ranks of grades and means: {_rank(dose)}; of the control {_rank(control)}"]
    return lines


def _rank(dose: DoseResponse) -> str:
    return f"{dose.spearman:+.2f} (as far from 0 by chance: {dose.chance:.1%})"


def persistence_lines(found: Persistence) -> list[str]:
    """The section on more training without tags, in Markdown."""
    lines = ["## After more training without tags", "", ABOUT_PERSISTENCE.format(found.steps), ""]
    lines += table("family", "", "before", "after", "share that is left")
    for family in found.families:
        names = " ".join(f"<{name}>" for name in family.tags)
        lines.append(f"| {names} | swap gap, nats a span | {_left(family.gap)} |")
        if family.judged is not None:
            lines.append(f"| {names} | judged difference, towards the corpus | {_left(family.judged)} |")
    return lines


def _left(found: Left) -> str:
    share = "-" if found.share is None else _percent(found.share)
    return f"{shown(found.before)} | {shown(found.after)} | {share}"


def _percent(interval: Interval) -> str:
    return f"{interval.value:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def written_picture(found: Judged) -> str:
    """SVG: the judged difference of each tag, of the models with true and with shuffled tags, and of the corpus."""
    tags = [tag for family in found.families for tag in family.tags]
    return dots_picture(
        "What a judge says of texts under each tag",
        "its score, less that under other tags",
        [f"<{tag.name}>" for tag in tags],
        {
            name: Line(
                values=[getattr(tag, name).value for tag in tags],
                low=[getattr(tag, name).low for tag in tags],
                high=[getattr(tag, name).high for tag in tags],
            )
            for name in ("true", "shuffled", "corpus")
        },
    )
