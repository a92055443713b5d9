"""What it takes to take one more document out of shards that a run has written: requests and bytes read, by stage.

    python benchmarks/takedowns.py [--units 256] [--megabytes 4] [--json FILE]

A run writes shards in training order from a synthetic corpus, without one document. Another takes out one more: only
the parts that had it are written anew. Its requests to the store and the bytes that it reads are compared with those of
the first. With 64 units or more that send to the same partitions, sums of what they sent are kept, and used then.
Nothing here is a time, so other work on the machine changes nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from processes import local_ray
from report import parser, print_table, write_json
from scaling import MIB, lengths, write_corpus

from annotate import Corpus, Options, Pipeline, Place, PythonScorer, Render, Schedule, Split, Tag, TagScheme, score
from annotate.pipeline import make
from annotate.tally import BYTES_READ, REQUESTS

FIGURES = ("requests", "bytes read")
NO_STAGE = "driver"


def main() -> None:
    """Measure, print, and write JSON."""
    arguments = parser(__doc__, runs=1)
    arguments.add_argument("--megabytes", type=float, default=4)
    arguments.add_argument("--units", type=int, default=256)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name, local_ray(2):
        folder = Path(name)
        size = write_corpus(folder / "corpus", int(options.megabytes * MIB))
        whole = taken_by_run(folder, size // options.units, ["0-7"])
        less = taken_by_run(folder, size // options.units, ["0-7", "1-9"])
    stages = sorted(whole.keys() | less.keys(), key=lambda stage: -whole.get(stage, {}).get("bytes read", 0.0))
    rows = [
        [stage, *(f"{run.get(stage, {}).get(figure, 0.0):,.0f}" for figure in FIGURES for run in (whole, less))]
        for stage in stages
    ]
    sums = {name: {figure: _sum(run, figure) for figure in FIGURES} for name, run in (("whole", whole), ("less", less))}
    rows.append(["all", *(f"{sums[run][figure]:,.0f}" for figure in FIGURES for run in ("whole", "less"))])
    print_table(["stage", "requests", "one less", "bytes read", "one less"], rows)
    ratios = {figure.replace(" ", "_"): sums["less"][figure] / sums["whole"][figure] for figure in FIGURES}
    print("\n".join(f"{name}: {ratio:.3f}" for name, ratio in ratios.items()))
    write_json(options.json, ratios, {"whole": whole, "less": less})


def taken_by_run(folder: Path, unit_bytes: int, exclude: list[str]) -> Mapping[str, Mapping[str, float]]:
    """Run the pipeline without some documents; its requests and the bytes that it read, by stage."""
    before = {path.name for path in (folder / "out" / "events").glob("*.jsonl")}
    make(pipeline(folder / "corpus", unit_bytes, exclude), folder / "out", Options(workers=2, by_value=("scaling",)))
    found: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(FIGURES, 0.0))
    for path in (folder / "out" / "events").glob("*.jsonl"):
        for event in map(json.loads, path.read_text().splitlines() if path.name not in before else []):
            if event.get("event") == "calls":
                of = found[event["stage"] or NO_STAGE]
                of["requests"] += sum(n for name, n in event["counts"].items() if name.startswith(REQUESTS))
                of["bytes read"] += event["counts"].get(BYTES_READ, 0)
    return dict(found)


def pipeline(corpus: Path, unit_bytes: int, exclude: list[str]) -> Pipeline:
    """From the corpus to shards in training order, without these documents."""
    scorer = PythonScorer(function=lengths, axes=["length"], version="1")
    scores = score(Split(Corpus(str(corpus), unit_bytes=unit_bytes)), scorers=[scorer])
    scheme = TagScheme(tags=[Tag(name="long", rule="length >= q(0.7)")])
    return Pipeline(Render(Place(scores, scheme, schedule=Schedule()), part_bytes=8 * unit_bytes, exclude=exclude))


def _sum(run: Mapping[str, Mapping[str, float]], figure: str) -> float:
    return sum(of[figure] for of in run.values())


if __name__ == "__main__":
    main()
