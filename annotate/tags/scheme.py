"""The tag scheme: which tags there are, when each holds, and how they are laid into text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.tags.conditions import Quantile
from annotate.tags.layouts import CLOSES, LAYOUTS
from annotate.tags.vocabulary import Alias, Control, Family, Tag, at, check_share, one_of, shown_name
from annotate.training_order.phases import Phase, check_phases

FamilyOrder = Literal["fixed", "shuffled", "rank"]

MOST = CLOSES  # the most names; see CLOSES


@dataclass(frozen=True, kw_only=True)
class TagScheme:
    """Which tags there are, when each holds, and how they are laid into text.

        TagScheme(
            tags=(Tag(name="nice", rule="niceness >= q(0.7)"), Tag(name="correct", rule="correctness >= q(0.9)")),
            document_dropout=0.1,
        )

    Attributes:
        tags: the tags.
        families: how the tags of each family are laid into text. A family that is not here has the defaults of
            `Family`.
        aliases: names for several tags together.
        order: in which the tags of several families stand at one place. "fixed": that of the first tag of each family
            in `tags`. "shuffled": drawn for each span. "rank": the family comes first whose score ranks highest among
            the scores of all spans.
        document_dropout: the share of documents that get no tag at all, so that a model knows untagged text. Guidance
            takes at least 0.1 (Fan et al. 2025, arXiv 2505.16570).
        control: another rendering of the same text, to compare models with. "shuffled": the tags of each span go,
            together, to another span of the corpus. "shuffled-in-document": to another span of the document.
            "constant": each tag becomes the first of its family. "reversed": the first tag of a family becomes the
            last, and so on. "hashed-names": names that tell nothing. "untagged": no tags.
        phases: of training, in their order. Each says which share of its documents keep their tags. Empty: all
            documents keep them.
        seed: of every random choice.
    """

    tags: Sequence[Tag]
    families: Sequence[Family] = ()
    aliases: Sequence[Alias] = ()
    phases: Sequence[Phase] = ()
    order: FamilyOrder = "fixed"
    document_dropout: float = 0.0
    control: Control = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tags", "families", "aliases", "phases"):
            object.__setattr__(self, name, as_tuple(getattr(self, name), name))
        if not self.tags:
            raise ConfigError("a tag scheme must have at least one tag, got none.")
        for name, known in (("order", FamilyOrder), ("control", Control)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(f"{name} must be {one_of(get_args(known))}, got {getattr(self, name)!r}.")
        check_share(self.document_dropout, "document_dropout")
        self._check_families()
        self._check_aliases()
        check_phases(self.phases)
        self._check_names()

    def _check_names(self) -> None:
        named = self._named()
        named += [(f"/{name}", dict(named)[name]) for name in self.closed]
        if len(named) > MOST:
            raise ConfigError(f"a tag scheme can have at most {MOST:,} names, got {len(named):,}.")
        first: dict[str, str] = {}
        for name, where in named:
            if name in first:
                raise ConfigError(
                    f"{at(where)}the tags of a scheme must have different names, got {name} twice"
                    f"{first[name] and f', first in {first[name]}'}.",
                    hint="Null tags, aliases and closing tags, as /nice, are names too. Call one of the two otherwise.",
                )
            first[name] = where

    def _named(self) -> list[tuple[str, str]]:
        """All names, without those of closing tags, each with the place where it is given."""
        named = [(item.name, item.where) for some in (self.tags, self.aliases) for item in some]
        return named + [(family.null, family.where) for family in self.families if family.null is not None]

    def located(self, error: ConfigError) -> ConfigError:
        """Put file and line of a tag before an error that shows its spelling."""
        for name, where in self._named():
            shown = shown_name(name, self.control)
            if where and (f"<{shown}>" in error.message or f"</{shown}>" in error.message):
                return ConfigError(f"{where}: {error.message}", hint=error.hint)
        return error

    def _check_families(self) -> None:
        known = {tag.family or tag.name for tag in self.tags}
        named = list[str]()
        for family in self.families:
            name, where = family.name, at(family.where)
            if name not in known:
                raise ConfigError(f"{where}no tag is of family {name!r}; families: {', '.join(sorted(known))}.")
            if name in named:
                raise ConfigError(f"{where}family {name!r} is given twice.", hint="Give all its tags in one.")
            named.append(name)
        for family, tags in self.tags_by_family:
            others = [tag for tag in tags if tag.parsed.is_else]
            if len(others) > 1:
                raise ConfigError(
                    f"{at(others[1].where)}only one tag of family {family.name!r} can be `else`, got "
                    f"{' and '.join(tag.name for tag in others)}."
                )
            if len(others) == len(tags):
                raise ConfigError(
                    f"{at(others[0].where)}tag {others[0].name!r} is `else`, but its family {family.name!r} has no "
                    "other tag."
                )

    def _check_aliases(self) -> None:
        tags = {tag.name for tag in self.tags}
        aliases = {alias.name: alias for alias in self.aliases}
        for alias in self.aliases:
            for name in alias.tags:
                if name not in tags and name not in aliases:
                    raise ConfigError(
                        f"{at(alias.where)}alias {alias.name!r} stands for {name!r}, which is no tag and no alias; "
                        f"tags: {', '.join(sorted(tags))}."
                    )
            meant = self.meant(alias.name)
            families = [tag.family or tag.name for tag in self.tags if tag.name in meant]
            if not alias.expand and len(set(families)) < len(meant):
                raise ConfigError(
                    f"{at(alias.where)}alias {alias.name!r} stands for two tags of one family, which never hold "
                    f"together: {', '.join(meant)}."
                )

    def meant(self, name: str, *, seen: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The tags that a name stands for: the tags of an alias, or the tag itself.

        Raises:
            ConfigError: there is no such name; or an alias stands for itself, directly or through others.
        """
        alias = next((alias for alias in self.aliases if alias.name == name), None)
        if alias is not None and name in seen:
            raise ConfigError(
                f"{at(alias.where)}aliases stand for each other: {' -> '.join([*seen, name])}",
                hint="An alias stands for tags, or for aliases that do not lead back to it.",
            )
        if alias is None:
            if name not in self.names:
                raise ConfigError(f"the scheme has no tag {name!r}; it has: {', '.join(self.names)}.")
            return (name,)
        found = [tag for part in alias.tags for tag in self.meant(part, seen=(*seen, name))]
        return tuple(dict.fromkeys(found))

    @cached_property
    def tags_by_family(self) -> tuple[tuple[Family, tuple[Tag, ...]], ...]:
        """The families, in the order of their first tags; each with its tags, in their order."""
        given = {family.name: family for family in self.families}
        tags: dict[str, list[Tag]] = {}
        for tag in self.tags:
            tags.setdefault(tag.family or tag.name, []).append(tag)
        return tuple((given.get(name, Family(name=name)), tuple(own)) for name, own in tags.items())

    @cached_property
    def names_by_family(self) -> tuple[tuple[Family, tuple[str, ...]], ...]:
        """The families, each with all names that it may put into text: tags, null tag, aliases in place of its tags."""
        found = []
        for family, tags in self.tags_by_family:
            own = tuple(tag.name for tag in tags)
            instead = [a.name for a in self.aliases if not a.expand and self.meant(a.name)[0] in own]
            found.append((family, (*own, *([] if family.null is None else [family.null]), *instead)))
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names that can stand in text: tags, null tags, aliases that are tags. Closing tags are not among them."""
        nulls = [family.null for family in self.families if family.null is not None]
        return (*(tag.name for tag in self.tags), *nulls, *(alias.name for alias in self.aliases if not alias.expand))

    @cached_property
    def closed(self) -> tuple[str, ...]:
        """The tags that have a closing tag."""
        closing = [family.name for family, _ in self.tags_by_family if LAYOUTS[family.layout].closes]
        own = [tag.name for tag in self.tags if (tag.family or tag.name) in closing]
        own += [family.null for family in self.families if family.null is not None and family.name in closing]
        return (*own, *(a.name for a in self.aliases if not a.expand and self.meant(a.name)[0] in own))

    @property
    def shown(self) -> tuple[str, ...]:
        """`names`, as they stand between angle brackets."""
        return tuple(shown_name(name, self.control) for name in self.names)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All that can stand between angle brackets, closing tags too."""
        return (*self.shown, *(f"/{shown_name(name, self.control)}" for name in self.closed))

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes whose scores or quantiles the rules use, sorted."""
        used = {axis for tag in self.tags for axis in tag.parsed.axes}
        return tuple(sorted(used | {quantile.axis for quantile in self.quantiles}))

    @property
    def quantiles(self) -> tuple[Quantile, ...]:
        """All quantiles that the rules compare with, sorted."""
        return tuple(sorted({quantile for tag in self.tags for quantile in tag.parsed.quantiles}))

    @property
    def groupings(self) -> tuple[tuple[str, ...], ...]:
        """Each set of columns that quantiles are grouped by, once, sorted."""
        return tuple(sorted({quantile.by for quantile in self.quantiles if quantile.by}))

    @property
    def curves(self) -> tuple[str, ...]:
        """All axes that the rules read as a probability, sorted."""
        return tuple(sorted({axis for tag in self.tags for axis in tag.parsed.curves}))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the corpus that the rules read, sorted."""
        return tuple(sorted({name for tag in self.tags for name in tag.parsed.columns}))

    @property
    def ranked(self) -> bool:
        """Whether the families at a span are in the order of its scores."""
        return self.order == "rank" and len(self.tags_by_family) > 1

    @property
    def reads_text(self) -> bool:
        """Whether tags stand inside spans: to place those takes the text."""
        return any(LAYOUTS[family.layout].inside is not None for family, _ in self.tags_by_family)

    def identity(self) -> dict[str, Any]:
        """All that can change a placement, as JSON."""
        tags = [{"name": tag.name, "rule": tag.rule, "family": tag.family or tag.name} for tag in self.tags]
        families = [_identity(family) for family, _ in self.tags_by_family]
        aliases = [_identity(alias) for alias in self.aliases if not alias.expand]
        chosen = {name: getattr(self, name) for name in ("order", "document_dropout", "control", "seed")}
        rates = {"tag_rates": [[phase.name, *phase.rates] for phase in self.phases]} if self.phases else {}
        return {"tags": tags, "families": families, "aliases": aliases, **chosen, **rates}


def _identity(item: Family | Alias) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "where"}


DEFAULT_SCHEME = TagScheme(
    tags=(
        Tag(name="nice", rule="niceness >= q(0.7)"),
        Tag(name="authoritative_tone", rule="tone >= q(0.7)"),
        Tag(name="correct", rule="correctness >= q(0.7)"),
    ),
    document_dropout=0.1,
)
