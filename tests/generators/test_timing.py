"""What requests will take is told from a few tokens of each: prompts once, openings once, and each token."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from annotate.generators import Request, Sampling, timing

PROMPT, OPENING, TOKEN = 10.0, 0.5, 0.1


@dataclass(frozen=True)
class Settings:
    sampling: Sampling

    def prefix(self, prompt):
        return [len(prompt)]


@dataclass
class Model:
    """Each prompt takes ten seconds, an opening half a one, a token the tenth of one."""

    settings: Settings
    now: float = 0.0
    read_prompts: list = field(default_factory=list)

    def perf_counter(self):
        return self.now

    def read(self, ids):
        self.read_prompts.append(ids)
        self.now += PROMPT

    def wait(self):
        pass

    def complete(self, requests):
        for prompt in {request.prompt for request in requests}:
            self.read(self.settings.prefix(prompt))
        most = self.settings.sampling.max_tokens
        # Every other one is at its end after ten tokens.
        written = np.array([most if i % 2 else min(10, most) for i in range(len(requests))], np.int32)
        self.now += OPENING * len(requests) + TOKEN * written.sum()
        return SimpleNamespace(tokens=written)


@pytest.mark.parametrize("most", [1, 20, 500])
def test_prompts_are_told_apart_and_tokens_are_those_really_written(most, monkeypatch):
    model = Model(Settings(Sampling(max_tokens=most)))
    monkeypatch.setattr(timing, "time", model)
    seconds, prompts = timing.time_requests(model, [Request(prompt, "x", 0) for prompt in ("a", "a", "bc", "a")])
    assert prompts == pytest.approx(2 * PROMPT)
    assert seconds == pytest.approx(4 * OPENING + 4 * most * TOKEN)
    assert model.settings.sampling.max_tokens == most
