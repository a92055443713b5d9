"""The tag scheme: which tags there are, when each holds, and how they are laid into text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from annotate.errors import ConfigError
from annotate.tags.conditions import Quantile
from annotate.tags.layouts import CLOSES, LAYOUTS
from annotate.tags.vocabulary import Alias, Control, Family, Tag, at, check_share, one_of, shown_name
from annotate.training_order.phases import Phase, check_phases

FamilyOrder = Literal["fixed", "shuffled", "rank"]

MOST = CLOSES  # names, at most: what is added to the number of one stands for its closing tag


@dataclass(frozen=True, kw_only=True)
class TagScheme:
    """Tags in the order in which they stand in text, where several hold at one place.

    Attributes:
        tags: the tags.
        families: how those of a family are laid into text; a family that is not named has the defaults of `Family`.
        aliases: names for several tags together.
        order: of the families at one place: "fixed", that of their first tags; "shuffled", drawn for each span; "rank",
            the highest score among all spans first.
        document_dropout: share of documents that get no tag at all, so that a model knows untagged text (for guidance
            at least 0.1: Fan et al. 2025, arXiv 2505.16570).
        control: another rendering of the same text, to compare with. "shuffled": tags go to other spans of the corpus,
            all that a span has to one; "shuffled-in-document": of the document; "constant": each is the first of its
            family; "reversed": the first of a family for the last; "hashed-names": names that tell nothing;
            "untagged": no tags.
        phases: of training, in their order, each with its share of documents that keep their tags; none for one
            phase with all tags.
        seed: of all that is drawn.
    """

    tags: tuple[Tag, ...]
    families: tuple[Family, ...] = ()
    aliases: tuple[Alias, ...] = ()
    phases: tuple[Phase, ...] = ()
    order: FamilyOrder = "fixed"
    document_dropout: float = 0.0
    control: Control = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tags", "families", "aliases", "phases"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
        """All names but those of closing tags, and where they are given."""
        named = [(item.name, item.where) for some in (self.tags, self.aliases) for item in some]
        return named + [(family.null, family.where) for family in self.families if family.null is not None]

    def located(self, error: ConfigError) -> ConfigError:
        """An error that is about the spelling of a tag, with the place of the tag before it."""
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
        """The tags that a name stands for: those of an alias, or the tag itself.

        Raises:
            ConfigError: an alias stands for itself, directly or through others; or there is no such name.
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
        """The families in the order of their first tags, with their tags in order."""
        given = {family.name: family for family in self.families}
        tags: dict[str, list[Tag]] = {}
        for tag in self.tags:
            tags.setdefault(tag.family or tag.name, []).append(tag)
        return tuple((given.get(name, Family(name=name)), tuple(own)) for name, own in tags.items())

    @cached_property
    def names_by_family(self) -> tuple[tuple[Family, tuple[str, ...]], ...]:
        """The families with all names that can stand for one: tags, null tag, aliases of a tag that stand instead."""
        found = []
        for family, tags in self.tags_by_family:
            own = tuple(tag.name for tag in tags)
            instead = [a.name for a in self.aliases if not a.expand and self.meant(a.name)[0] in own]
            found.append((family, (*own, *([] if family.null is None else [family.null]), *instead)))
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names that can stand in text, without closing tags: tags, null tags, aliases that are not expanded."""
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
        """`names` as they are between angle brackets."""
        return tuple(shown_name(name, self.control) for name in self.names)

    @property
    def spelled(self) -> tuple[str, ...]:
        """All that can be between angle brackets, closing tags too."""
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
        """The columns of the corpus that quantiles are by, each set of them once, sorted."""
        return tuple(sorted({quantile.by for quantile in self.quantiles if quantile.by}))

    @property
    def curves(self) -> tuple[str, ...]:
        """All axes that the rules read as a probability, sorted."""
        return tuple(sorted({axis for tag in self.tags for axis in tag.parsed.curves}))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the corpus that the rules compare with texts, sorted."""
        return tuple(sorted({name for tag in self.tags for name in tag.parsed.columns}))

    @property
    def ranked(self) -> bool:
        """Whether the order of the families at a span is that of its scores."""
        return self.order == "rank" and len(self.tags_by_family) > 1

    @property
    def reads_text(self) -> bool:
        """Whether tags are placed before words, which takes the text."""
        return any(LAYOUTS[family.layout].inside is not None for family, _ in self.tags_by_family)

    def identity(self) -> dict[str, Any]:
        """All that can change a placement, JSON-ready."""
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
