"""A tag scheme in words: when each tag holds, where it stands, and what is left to chance."""

from __future__ import annotations

from collections.abc import Iterator

from annotate.tags.layouts import LAYOUTS
from annotate.tags.scheme import TagScheme
from annotate.tags.vocabulary import Family, Tag
from annotate.training_order.phases import Phase

_ORDER = {
    "fixed": "in the order of the scheme",
    "shuffled": "in an order drawn for each span",
    "rank": "the highest first",
}
_CONTROL = {
    "shuffled": "tags go to other spans of the corpus",
    "shuffled-in-document": "tags go to other spans of the document",
    "constant": "each tag is the first of its family",
    "reversed": "the first tag of a family stands for the last, and so on",
    "hashed-names": "names tell nothing",
    "untagged": "no tags at all",
}


def explain(scheme: TagScheme) -> list[str]:
    """What a scheme does, in words.

        for sentence in explain(preset("default")):
            print(sentence)

    Returns:
        Sentences, one a line.
    """
    lines = [line for family, tags in scheme.tags_by_family for line in _family(family, tags)]
    for alias in scheme.aliases:
        together = " ".join(f"<{name}>" for name in scheme.meant(alias.name))
        if alias.expand:
            lines.append(f"<{alias.name}> is a name in prompts for {together}.")
        else:
            lines.append(f"<{alias.name}> stands in place of {together} where all of them hold.")
    if len(scheme.tags_by_family) > 1:
        lines.append(f"Several tags at one place stand {_ORDER[scheme.order]}.")
    if scheme.document_dropout:
        lines.append(f"{100 * scheme.document_dropout:.3g} % of the documents get no tag.")
    lines += [_phase(phase) for phase in scheme.phases]
    if scheme.control != "none":
        lines.append(f"This is a control: {_CONTROL[scheme.control]}.")
    for by in ((), *scheme.groupings):
        if wanted := ", ".join(f"q({each.axis}, {each.q:g})" for each in scheme.quantiles if each.by == by):
            of = f"the documents of each {' and '.join(by)} by themselves" if by else "the corpus"
            lines.append(f"Quantiles are fitted on {of}: {wanted}.")
    columns = sorted({*scheme.columns, *(name for by in scheme.groupings for name in by)})
    reads = [f"the scores {', '.join(scheme.axes)}"] if scheme.axes else []
    reads += [f"the columns {', '.join(columns)}"] if columns else []
    return [*lines, f"It reads {' and '.join(reads)} of the corpus." if reads else "It reads nothing."]


def _phase(phase: Phase) -> str:
    begin, end = phase.rates
    if begin != end:
        keep = f"the share of documents that keep their tags goes from {100 * begin:.3g} % to {100 * end:.3g} %"
    else:
        keep = {0.0: "no document has tags", 1.0: "documents have their tags"}.get(
            begin, f"{100 * begin:.3g} % of the documents keep their tags"
        )
    return f"In phase {phase.name} ({phase.budget}) {keep}."


def _family(family: Family, tags: tuple[Tag, ...]) -> Iterator[str]:
    where = LAYOUTS[family.layout].words.format(percent=100 * family.rate)
    for tag in tags:
        holds = f"no other tag of {family.name} holds" if tag.parsed.is_else else f"`{tag.rule}`"
        yield f"<{tag.name}> stands {where} if {holds}."
    if len(tags) > 1 and not any(tag.parsed.is_else for tag in tags):
        yield f"Of several tags of {family.name} that hold, the first one stands; where none holds, none does."
    if family.null is not None:
        yield f"<{family.null}> stands where no tag of {family.name} does."
    if family.dropout:
        yield f"{100 * family.dropout:.3g} % of the spans lose their tag of {family.name}."
