"""What text will take that a model is to write: tokens, time and money, told before anything is paid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """What some documents will take.

    Attributes:
        documents: how many.
        read_tokens: of prompts and openings.
        written_tokens: of completions, if each is as long as it may be.
        counted: whether the tokens that are read were counted by the model's tokenizer; if not, by their bytes.
        seconds: on one model, if each completion is as long as it may be; None if that is not known.
        unit_seconds: that each unit of documents takes besides, since its prompts are read once.
        opening_bytes: of UTF-8 that the openings have, as they are read.
        money: at the prices of a server, likewise; None without prices.
    """

    documents: int
    read_tokens: float
    written_tokens: float
    counted: bool
    seconds: float | None = None
    unit_seconds: float = 0.0
    opening_bytes: float = 0.0
    money: float | None = None

    def times(self, factor: float) -> Foretold:
        """The same for so many times the documents."""
        return Foretold(
            documents=round(self.documents * factor),
            read_tokens=self.read_tokens * factor,
            written_tokens=self.written_tokens * factor,
            counted=self.counted,
            seconds=None if self.seconds is None else self.seconds * factor,
            unit_seconds=self.unit_seconds,
            opening_bytes=self.opening_bytes * factor,
            money=None if self.money is None else self.money * factor,
        )
