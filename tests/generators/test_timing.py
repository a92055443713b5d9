"""What requests will take is told from a few tokens of each: prompts once, openings once, and each token."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from annotate import CausalModel
from annotate.generators import Request, Sampling, TransformersGenerator, timing

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


def test_requests_that_are_tried_make_batches_as_full_as_all_do():
    asked = [Request(f"prompt {i % 5}", "x" * (i // 5), i) for i in range(200)]
    tried = timing.like_a_batch(asked, 16)
    assert {request.prompt for request in tried} == {"prompt 0"}
    assert sorted(len(request.opening) for request in tried) == list(range(12, 28))  # of 0 to 39
    few = [Request(f"prompt {i % 5}", "x", i) for i in range(20)]
    assert [len(found) for found in (timing.like_a_batch(few, 16), timing.like_a_batch(few, 40))] == [16, 20]
    assert len({request.prompt for request in timing.like_a_batch(few, 16)}) == 4


def test_times_are_for_all_requests_and_all_their_prompts(tiny, monkeypatch):
    made = TransformersGenerator(CausalModel(tiny("llama")), sampling=Sampling(max_tokens=4))
    monkeypatch.setattr(timing, "time_requests", lambda loaded, tried: (len(tried) * 1.0, 5.0))
    monkeypatch.setattr(TransformersGenerator, "load", lambda self, device: None)
    asked = [Request("the cat " * (1 + i % 4), "x", i) for i in range(80)]
    found = made.foretell(asked, "cpu")
    assert (found.documents, found.seconds, found.written_tokens) == (80, 80.0, 320)
    prefixes = [len(made.prefix("the cat " * n)) for n in (1, 2, 3, 4)]
    assert found.unit_seconds == pytest.approx(5.0 * sum(prefixes) / prefixes[0])
    assert found.read_tokens == 80 + 20 * sum(prefixes)


@pytest.mark.parametrize("most", [1, 20, 500])
def test_prompts_are_told_apart_and_tokens_are_those_really_written(most, monkeypatch):
    model = Model(Settings(Sampling(max_tokens=most)))
    monkeypatch.setattr(timing, "time", model)
    seconds, prompts = timing.time_requests(model, [Request(prompt, "x", 0) for prompt in ("a", "a", "bc", "a")])
    assert prompts == pytest.approx(2 * PROMPT)
    assert seconds == pytest.approx(4 * OPENING + 4 * most * TOKEN)
    assert model.settings.sampling.max_tokens == most
