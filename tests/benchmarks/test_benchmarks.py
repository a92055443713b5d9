"""Each benchmark runs with small sizes and writes JSON of the promised shape; no time is judged."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAINST = ("bare_forward", "bare_forward_same_layers", "transformers_pipeline", "sentence_transformers")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def run(name: str, folder: Path, *options: str, seconds: float = 580, first_path: Path = ROOT) -> dict:
    """What a benchmark writes, run as its readers would; Python looks for modules in `first_path` first."""
    out = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(out), "--runs", "1", *options]
    paths = os.pathsep.join([str(first_path), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=seconds
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert set(figures) == {"ratios", "raw"}
    least = {name: ratio for name, ratio in figures["ratios"].items() if not name.startswith(("overhead", "differing"))}
    assert all(ratio is None or ratio > 0 for ratio in least.values())
    return figures


def test_render(tmp_path):
    figures = run("render", tmp_path, "--megabytes", "0.2")
    assert set(figures["ratios"]) == {"python_join", "memory_copy"}
    assert figures["raw"]["tagged_bytes"] > 200_000


@pytest.mark.slow
def test_split(tmp_path):
    figures = run("split", tmp_path, "--megabytes", "0.1")
    assert set(figures["ratios"]) == {"python_regex"}
    assert set(figures["raw"]["mb_per_s"]) == {"sentence", "line", "paragraph", "document", "python_regex"}


@pytest.mark.slow
def test_levels(tmp_path):
    figures = run("levels", tmp_path, "--pieces", "3,6", "--megabytes", "0.01")
    assert set(figures["ratios"]) == {"9_reads", "36_reads"}


@pytest.mark.slow  # as it starts two Rays
def test_scaling(tmp_path):
    figures = run("scaling", tmp_path, "--megabytes", "0.1", "--units", "4", "--driver-units", "5000")
    assert set(figures["ratios"]) == {"two_workers_over_one"}
    raw = figures["raw"]
    assert [each["workers"] for each in raw["measured"]] == [1, 2, 2, 2]
    assert raw["measured"][2]["units"] > raw["measured"][1]["units"]
    assert all(each["requests"] > each["busiest"] > 0 < each["calls"] for each in raw["measured"])
    assert 20 < raw["costs"]["requests_a_unit"] <= 55  # over all stages
    assert len(raw["costs"]["shuffles"]) > 10
    assert set(raw["driver"]) == {"500", "5000"}
    for hours in raw["hours"].values():
        assert set(hours) == {"64", "512", "4096"}
        assert hours["64"]["workers"] >= hours["512"]["workers"] and hours["64"]["driver"] == hours["4096"]["driver"]


@pytest.mark.slow  # as it runs a whole pipeline twice
def test_takedowns(tmp_path):
    figures = run("takedowns", tmp_path, "--units", "8", "--megabytes", "0.1")
    assert figures["ratios"]["requests"] < 0.6 and figures["ratios"]["bytes_read"] < 0.4
    whole, less = figures["raw"]["whole"], figures["raw"]["less"]
    assert less["excluded-places"]["requests"] and not less.get("spans", {}).get("requests")
    assert whole["text-shards"]["bytes read"] > less["text-shards"]["bytes read"] > 0


def test_driver_state(tmp_path):
    figures = run("driver_state", tmp_path, "--units", "2000", "--workers", "2")
    assert set(figures["ratios"]) == {"memory_for_ten_times"}
    assert set(figures["raw"]) - {"machine"} == {"200", "2000"}
    assert set(figures["raw"]["2000"]) == {"source", "map", "reduce", "shuffle"}


def test_hot_hash(tmp_path):
    figures = run("hot_hash", tmp_path, "--units", "5000")
    raw = figures["raw"]
    assert (raw["exact hash"]["rows_out"], raw["keeper"]["rows_out"]) == (9999, 40_000)
    assert raw["different pages, band"]["rows_out"] < 9 * 5000


@pytest.mark.slow  # as it starts processes that prepare, and loads a dozen models
def test_gpu_on_a_cpu_without_ray_and_polars(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('ray', 'polars', 'obstore'): sys.modules[name] = None\n"
    )
    models = ("bert-base", "qwen3-0.6b-reward")
    sizes = ["--small", "--seconds", "0.1", "--feeders", "1", "--device", "cpu", "--models", ",".join(models)]
    figures = run("gpu", tmp_path, *sizes, first_path=tmp_path)
    jobs = {"bare_forward", "bare_forward_float32", "transformers_pipeline", "sentence_transformers", "ray_data"}
    assert set(figures["ratios"]) == {f"{model}_vs_{job}" for model in models for job in jobs}
    for model in models:
        found = figures["raw"]["models"][model]
        assert set(found["tokens_per_s"]) | set(found["left_out"]) == jobs | {"annotate", "annotate_float32"}
        assert found["left_out"]["ray_data"] and figures["ratios"][f"{model}_vs_ray_data"] is None
        assert found["same_bytes"] and found["share_of_card"] > 0 and found["prepare_tokens_per_s"] > 0
        assert found["busy_share"] is None and 0 <= found["flipped"]["bfloat16"] < 0.5
        assert found["batch_tokens"] in (2048, 8192)


@pytest.mark.parametrize("name", ["bert-base", "deberta-v3-base", "modernbert-base", "qwen3-0.6b-reward"])
def test_each_model_of_the_gpu_benchmark_can_be_made(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    models = importlib.import_module("gpu_models")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = ["A dog sat on a mat.", "The cats of the town sat on it too."]
    folder = models.write_model(models.SHAPES[name], texts, tmp_path / "model", "cpu", small=True)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == models.SHAPES[name].model_type
    ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    assert model(input_ids=ids).logits.shape == (1, 1) and ids.shape[1] > 4
    once, twice = (models.matrix_flops(model, [ids.shape[1]] * n) for n in (1, 2))
    assert twice == 2 * once > 0 and models.matrix_flops(model, [2 * ids.shape[1]]) > twice


@pytest.mark.slow  # as it starts a Ray
def test_overlap(tmp_path):
    figures = run("overlap", tmp_path, "--units", "4", "--seconds", "0.05")
    assert set(figures["ratios"]) == {"waiting", "computing"}
    assert set(figures["raw"]["seconds"]) == {f"{a}_{b}" for a in figures["ratios"] for b in ("flowing", "staged")}


@pytest.mark.slow
def test_engine(tmp_path):
    figures = run("engine", tmp_path, "--units", "40", "--seconds", "1")
    rival = {"vs_ray_data"} if importlib.util.find_spec("pandas") else set()
    assert set(figures["ratios"]) == {"overhead_1s_units", "units_vs_ray_tasks", "driver_ms_per_unit"} | rival
    assert figures["raw"]["driver_ms_per_unit_model"] > 0 and figures["raw"]["seconds"]["slow_loop"] > 1


@pytest.mark.slow
def test_tokens(tmp_path):
    figures = run("tokens", tmp_path, "--megabytes", "0.05")
    datatrove = {"datatrove"} if importlib.util.find_spec("datatrove") else set()
    families = {f"{family}_encode_batch_fast" for family in ("metaspace", "wordpiece")}
    assert set(figures["ratios"]) == {"encode_batch_fast", *families} | datatrove
    raw = figures["raw"]
    assert raw["tokens"]["byte_level"] == raw["tokens"]["byte_level_encode_batch_fast"] > 1000
    assert raw["placements"] > 10
    assert all(0.5 < filled <= 1 for filled in raw["filled"].values())


@pytest.mark.slow
def test_loader(tmp_path):
    options, rivals = ["--windows", "64"], set()
    if importlib.util.find_spec("datasets"):
        rivals |= {"datasets", "datasets_batches"}
    if consumers := os.environ.get("ANNOTATE_CONSUMERS"):
        options += ["--streaming-python", str(Path(consumers) / "mds" / "bin" / "python")]
    if consumers or (ROOT / ".consumers" / "mds" / "bin" / "python").exists():
        rivals |= {"streaming", "streaming_lean"}
    figures = run("loader", tmp_path, *options)
    names = {f"{name}{suffix}" for name in rivals for suffix in ("", "_shuffled")}
    assert set(figures["ratios"]) == names
    raw = figures["raw"]
    assert raw["windows"] == 64
    for clock in ("cpu", "wall"):
        assert set(raw["seconds"][clock]) == names | {"annotate", "annotate_shuffled"}


@pytest.mark.slow
def test_duplicates(tmp_path):
    pytest.importorskip("rensa")
    installed = all(map(importlib.util.find_spec, ("datatrove", "spacy")))
    figures = run("duplicates", tmp_path, "--documents", "300")
    theirs = {"datatrove", "datatrove_split"} if installed else set()
    rivals = {"rensa", "datasketch_lsh"} | theirs
    assert set(figures["ratios"]) == {
        *(f"signatures_vs_{name}" for name in ("rensa", "datasketch_bulk", "reading")),
        *(f"{ours}_vs_{name}" for ours in ("filter", "groups") for name in rivals),
        *(f"on_ray_vs_{name}" for name in theirs),
    }
    raw = figures["raw"]
    assert raw["documents"] == 300 < raw["shingles"] < raw["bytes"]
    ours = {"annotate_filter", "annotate_groups", "annotate_on_ray"}
    datatrove = {"datatrove_filter", "datatrove_split"} if installed else set()
    assert set(raw["kept"]) == ours | {"rensa_filter", "datasketch_filter"} | datatrove
    assert raw["kept"]["annotate_on_ray"] == raw["kept"]["annotate_groups"]
    assert all(200 < kept <= 300 for kept in raw["kept"].values())
    assert set(raw["kept"]) < set(raw["seconds"])


@pytest.mark.slow
def test_score(tmp_path):
    pytest.importorskip("sentence_transformers")
    figures = run("score", tmp_path, "--spans", "20", "--threads", "1")
    ray_data = {"ray_data"} if importlib.util.find_spec("pandas") else set()
    assert set(figures["ratios"]) == {*AGAINST, *(f"bfloat16_vs_{name}" for name in AGAINST)} | ray_data
    raw = figures["raw"]
    assert raw["spans"] >= 20 < raw["tokens"]
    assert set(raw["seconds"]) == {*AGAINST, "annotate", "annotate_bfloat16", "annotate_on_ray"} | ray_data
    assert all(len(seconds) == 1 for seconds in raw["seconds"].values())
    for off in raw["bfloat16"].values():
        assert 0 < off["rms"] <= off["max"] < 0.5
        assert 0 <= off["flipped"] < 0.5


@pytest.mark.slow
def test_memory(tmp_path):
    """Of two sizes, and of the smaller with other columns beside its text."""
    options = ["--sizes", "1,2", "--unit", "0.25", "--columns", "4", "--outputs", "tokens_shuffled", "--warm-up", "4"]
    figures = run("memory", tmp_path, *options)
    assert set(figures["ratios"]) == {"peak_16x_over_1x", "columns_tokens_shuffled"}
    for (one,) in figures["raw"]["runs"].values():
        stages = {"spans", "annotations (mean)", "calibration", "thresholds", "placements", "text-shards"}
        assert set(one["seconds"]) == stages and one["wall"] > max(one["seconds"].values())
        assert one["above_idle"]["spans"]["worker"] > 0
        assert len(one["idle"]["model"]) >= 1
        assert len(one["idle"]["driver"]) == 1
    for (one,) in figures["raw"]["columns"].values():
        assert one["above_idle"]["token-shards"]["worker"] > 0
