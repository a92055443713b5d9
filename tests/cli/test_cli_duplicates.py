"""`annotate duplicates` on planted corpora: every section of the report, bad inputs, and that units do not matter."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.minhash.bands import band_chance, detection_chance
from annotate.minhash.reference import shingles
from annotate.reports import duplicates as engine
from annotate.reports.large_clusters import MEMBERS
from annotate.stages.duplicates.clusters import Groups
from annotate.stages.near_duplicates import NearDuplicates
from annotate.storage.manifests import Manifest


def text(seed, words=100):
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 100_000, words))


def changed(base, *places):
    words = base.split(" ")
    for place in places:
        words[place] = f"other{place}"
    return " ".join(words)


EXACT, NEAR, LARGE, LOOSE, STEERS = (text(seed) for seed in (1, 2, 3, 4, 5))
LOOSELY = changed(LOOSE, *range(8, 100, 16))  # exact Jaccard of about 0.55

PLANTED = {
    "a": [
        (EXACT, "web"),
        (EXACT, "web"),
        (f"  {EXACT.replace(' ', '  ')}", "web"),  # the longest: the keeper
        (NEAR, "books"),
        (LOOSE, "books"),
        *((text(100 + i), "books") for i in range(10)),
    ],
    "b": [
        *((changed(LARGE, i) + " end" * (i == 7), "web") for i in range(12)),  # 7 is the longest
        (EXACT, None),
        (f"\x1b[31m{STEERS}", None),
        (None, "web"),
        ("", "web"),
    ],
    "c": [
        (changed(NEAR, 50), "books"),
        (LOOSELY, "books"),
        (changed(f"\x1b[31m{STEERS}", 50) + " \x07", "web"),
        *((text(200 + i), "web") for i in range(6)),
    ],
}
DOCUMENTS = sum(map(len, PLANTED.values()))
EXACT_COPIES, NEAR_ONES = 3, 1 + 11 + 1


def write(folder, shards, **extra):
    folder.mkdir(parents=True, exist_ok=True)
    for shard, rows in shards.items():
        texts, sources = zip(*rows, strict=True)
        columns = {
            "text": pa.array(texts, pa.string()),
            "name": pa.array([f"{shard}{i}" for i in range(len(texts))]),
            "source": pa.array(sources, pa.string()),
            "number": pa.array(range(len(texts))),
            "tree": pa.array([[i] for i in range(len(texts))]),
        }
        pq.write_table(pa.table({**columns, **extra}), folder / f"{shard}.parquet")
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    return write(tmp_path_factory.mktemp("planted") / "corpus", PLANTED)


@pytest.fixture
def duplicates(ray_cluster, annotate, monkeypatch, tmp_path):
    """Run the command on the session's Ray; gives exit code, output, errors and figures."""
    monkeypatch.setattr("annotate.cli.local_ray.ray_running", lambda address, console: contextlib.nullcontext())

    def run(corpus, *arguments, workdir=tmp_path / "out"):
        file = tmp_path / "figures.json"
        file.unlink(missing_ok=True)
        code, out, err = annotate("duplicates", corpus, "--workdir", workdir, "--json", file, *arguments)
        return code, out, err, json.loads(file.read_text()) if file.exists() else {}

    return run


def after(out, title):
    """The lines of a section."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i]), len(lines))
    return lines[start:end]


def cells(line):
    return [cell.strip() for cell in line.replace("┃", "│").split("│") if cell.strip()]


def test_documents_are_counted(duplicates, planted):
    code, out, err, figures = duplicates(planted)
    assert code == 0, err
    counts = {line[0]: line[1] for line in map(cells, out.splitlines()) if len(line) == 3}
    expected = {
        "documents": DOCUMENTS,
        "exact_copies": EXACT_COPIES,
        "near_duplicates": NEAR_ONES,
        "unusable": 2,
        "kept": DOCUMENTS - EXACT_COPIES - NEAR_ONES - 2,
        "dropped": EXACT_COPIES + NEAR_ONES,
        "not_reached": 0,
    }
    assert {name: figures[name] for name in expected} == expected
    assert counts["exact copies, dropped"] == "3" and counts["near-duplicates, dropped"] == "13"
    assert counts["input"] == str(DOCUMENTS) and counts["kept"] == str(expected["kept"])
    texts = [row[0] or "" for rows in PLANTED.values() for row in rows]
    larges = [changed(LARGE, i) for i in range(12) if i != 7]
    dropped = [EXACT, EXACT, EXACT, *larges, min(NEAR, changed(NEAR, 50), key=len), f"\x1b[31m{STEERS}"]
    assert figures["characters"] == sum(map(len, texts))
    assert figures["characters_dropped"] == sum(map(len, dropped))
    assert loud_lines(out) == []


def loud_lines(out):
    return [line for line in out.splitlines() if line.startswith("!")]


def test_clusters_are_counted_by_size(duplicates, planted):
    _, out, _, figures = duplicates(planted)
    assert figures["sizes"] == [
        {"least": 2, "most": 2, "clusters": 2, "documents": 4},
        {"least": 4, "most": 4, "clusters": 1, "documents": 4},
        {"least": 10, "most": 99, "clusters": 1, "documents": 12},
    ]
    lines = after(out, "Clusters of 2 documents or more, by size: 4 in all")
    assert ["2", "2", "4"] in map(cells, lines) and ["10 to 99", "1", "12"] in map(cells, lines)


def test_the_largest_clusters_are_shown_with_a_diff(duplicates, planted):
    _, out, _, figures = duplicates(planted, "--clusters", 2, "--id", "name")
    large, exact = figures["largest"]
    assert large["documents"] == 12 and exact["documents"] == 4
    assert [(m["shard"], m["row"], m["id"]) for m in exact["members"]] == [
        ("a.parquet", 2, "a2"),
        ("a.parquet", 0, "a0"),
        ("a.parquet", 1, "a1"),
        ("b.parquet", 12, "b12"),
    ]
    assert exact["similarity"] == 1 and exact["other"]["id"] == "a0"
    assert large["members"][0]["id"] == "b7" and len(large["members"]) == MEMBERS
    shown = "".join(out.split())
    assert "12documents" in shown and "keeperb.parquet:7(b7)" in shown and "and8more" in shown
    assert "differonlyinblanks" in shown
    other = large["other"]["row"]
    word = LARGE.split(" ")[other]
    assert f"[-{word}-]{{+other{other}+}}" in shown and "[-end-]" in shown
    assert 0.8 <= large["similarity"] < 1
    assert "texts" not in large and int(large["cluster"]) > 0


def test_the_least_similar_is_shown(duplicates, tmp_path):
    texts = [LARGE + " end", changed(LARGE, 1), changed(LARGE, 2, 50, 80), changed(LARGE, 3)]
    rows = [(each, "x") for each in texts]
    _, _, _, figures = duplicates(write(tmp_path / "corpus", {"s": rows}), "--threshold", "0.6")
    [cluster] = figures["largest"]
    assert cluster["documents"] == 4
    assert cluster["other"]["row"] == 2


def test_text_never_steers_the_terminal(duplicates, planted):
    _, out, _, _ = duplicates(planted)
    assert "\x1b" not in out and "\x07" not in out and "␇" in out


def test_sources_are_shards_or_values(duplicates, planted):
    _, out, _, figures = duplicates(planted)
    assert figures["sources"] == {
        "of": None,
        "total": 3,
        "sources": [
            {"name": "b.parquet", "documents": 16, "dropped": 13},
            {"name": "a.parquet", "documents": 15, "dropped": 3},
            {"name": "c.parquet", "documents": 9, "dropped": 0},
        ],
    }
    assert ["b.parquet", "16", "13", "81.2%"] in map(cells, after(out, "Dropped by shard"))
    before = out.count("found committed")
    _, out, _, figures = duplicates(planted, "--source", "source")
    assert out.count("found committed") > before  # nothing was run again
    assert "started" not in out
    assert figures["sources"]["total"] == 3
    by_name = {source["name"]: source for source in figures["sources"]["sources"]}
    assert {name: (s["documents"], s["dropped"]) for name, s in by_name.items()} == {
        "web": (3 + 12 + 2 + 7, 2 + 11),
        "books": (12 + 2, 1),
        None: (2, 2),
    }
    assert ["null", "2", "2", "100.0%"] in map(cells, after(out, "Dropped by source"))


@pytest.mark.parametrize("column", ["number", "name"])
def test_only_the_sources_with_most_are_listed(duplicates, planted, monkeypatch, column):
    monkeypatch.setattr(engine, "SOURCES", 2)
    _, out, _, figures = duplicates(planted, "--source", column)
    total = 16 if column == "number" else DOCUMENTS
    assert figures["sources"]["total"] == total and len(figures["sources"]["sources"]) == 2
    assert f"the 2 of {total} with the most dropped" in out
    monkeypatch.setattr(engine, "MOST_SOURCES", 10)
    code, out, _, figures = duplicates(planted, "--source", column)
    assert code == 0 and f"{column!r} has too many values" in out
    assert figures["sources"] == {"of": column, "sources": [], "total": None}


def test_the_curve_is_of_the_bands_in_use(duplicates, planted):
    _, out, _, figures = duplicates(planted, "--bands", "20,6", "--threshold", "0.7")
    assert figures["ways"] == [[20, 6], [32, 4]] and figures["threshold"] == 0.7
    assert "bands x rows 20 x 6 and 32 x 4" in out
    for point in figures["curve"]:
        at = np.array([point["similarity"]])
        assert point["caught"] == pytest.approx([band_chance(at, 20, 6)[0], band_chance(at, 32, 4)[0]])
        assert point["found"] == pytest.approx(detection_chance(at, [(20, 6), (32, 4)], 128, 0.7)[0])
    assert {0.1, 0.6, 0.65, 0.7, 0.75, 0.9} <= {point["similarity"] for point in figures["curve"]}
    [row] = [line for line in map(cells, after(out, "Chance that")) if line[0] == "0.7"]
    assert row[1] == f"{band_chance(np.array([0.7]), 20, 6)[0]:.1%}" and "█" in row[-1]


def test_the_curve_of_exact_similarity_ends_at_the_threshold(duplicates, planted):
    code, out, err, figures = duplicates(planted, "--verify", "exact")
    assert code == 0, err
    assert "candidate, and exactly 0.8 or above" in out and figures["verify"] == "exact"
    assert (figures["exact_copies"], figures["near_duplicates"]) == (EXACT_COPIES, NEAR_ONES)
    chances = {point["similarity"]: point["found"] for point in figures["curve"]}
    assert chances[0.75] == 0 and chances[0.8] > 0.999
    cluster = figures["largest"][0]
    places = (each["row"] for each in (cluster["members"][0], cluster["other"]))
    keeper, other = (set(shingles(PLANTED["b"][row][0], 5)) for row in places)
    assert cluster["similarity"] == pytest.approx(len(keeper & other) / len(keeper | other))


def test_split_groups_are_counted(duplicates, planted):
    _, out, _, figures = duplicates(planted)
    assert figures["groups"] == {"groups": 5, "documents": 22, "largest": 12, "cut": 0, "documents_of_cut": 0}
    assert "5 groups of 2 documents or more, with 22 documents; the largest has 12." in out
    code, _, err, figures = duplicates(planted, "--group-threshold", "0.8", "--group-span", 0)
    assert code == 0, err
    assert figures["groups"]["groups"] == 4 and figures["groups"]["documents"] == 20  # the clusters


def test_cut_groups_are_said(duplicates, planted, tmp_path, capsys):
    corpus = write(tmp_path / "corpus", {"s": [(changed(LARGE, i % 90), "x") for i in range(120)]})
    code, out, _, figures = duplicates(corpus)
    assert code == 0
    assert figures["groups"]["cut"] == 1 and figures["groups"]["documents_of_cut"] == 120
    assert "1 group was too large and cut, with 120 documents" in out
    assert any("1 split group has more than 1% of the corpus" in line for line in loud_lines(out))
    manifest = Manifest("groups", "", "", {}, {}, (), 1, 1, 0, {"cut_groups": 2, "documents_of_cut_groups": 1500})
    assert Groups.remarks(None, manifest) == [
        "2 split groups have more than 1% of the corpus, 1,500 documents in all: each cluster of it is a group "
        "of its own"
    ]
    assert Groups.remarks(None, dataclasses.replace(manifest, counts={"cut_groups": 0})) == []


def test_units_do_not_matter(duplicates, planted, tmp_path):
    whole = duplicates(planted)[3]
    code, _, _, cut = duplicates(planted, "--unit-mb", "0.001", workdir=tmp_path / "cut")
    assert code == 0 and cut == whole
    assert len(list((tmp_path / "cut").glob("signatures-*/units/*"))) > 20


def test_an_older_corpus_wins(duplicates, tmp_path):
    old = write(tmp_path / "old", {"o": [(NEAR, "x"), (EXACT, "x"), (EXACT, "x"), (text(9), "x"), (text(9), "x")]})
    new = write(tmp_path / "new", {"n": [(EXACT + " and much longer", "x"), (text(8), "x"), (EXACT, "x")]})
    code, out, err, figures = duplicates(new, "--against", old, "--id", "name")
    assert code == 0, err
    assert (figures["documents"], figures["dropped"], figures["exact_copies"]) == (3, 2, 1)
    assert figures["sizes"] == [{"least": 4, "most": 4, "clusters": 1, "documents": 4}]
    [cluster] = figures["largest"]
    assert cluster["members"][0] == {"shard": "o.parquet", "row": 1, "id": "o1", "against": True}
    assert cluster["other"]["id"] == "n0" and not cluster["other"]["against"]
    assert "(o1, of the older corpus)" in out and "{+and much longer+}" in out
    assert figures["groups"]["groups"] == 1
    assert figures["largest"][0]["documents"] == 4


def test_more_of_a_cluster_can_be_kept(duplicates, planted):
    _, out, _, figures = duplicates(planted, "--most", 4, "--clusters", 4)
    assert figures["dropped"] == 8
    assert [cluster["other"] is None for cluster in figures["largest"]] == [False, True, True, True]
    assert out.count("all its documents are kept") == 3


def test_the_keeper_can_have_the_highest_value(duplicates, planted):
    _, _, _, figures = duplicates(planted, "--keep", "highest:number")
    assert figures["largest"][0]["members"][0]["row"] == 11


def test_no_duplicates_is_said_loudly(duplicates, tmp_path):
    code, out, _, figures = duplicates(write(tmp_path / "corpus", {"s": [(text(i), "x") for i in range(20)]}))
    assert code == 0 and loud_lines(out) == ["! no duplicates found"]
    assert figures["clusters"] == 0 and figures["sizes"] == [] and figures["largest"] == []
    assert "Chance that a pair is found" in out and "No group has 2 documents or more." in out
    many = [(text(i, 10), "x") for i in range(1000)]
    _, out, _, figures = duplicates(write(tmp_path / "many", {"s": many}), workdir=tmp_path / "two")
    assert figures["remarks"] == ["verdicts: no near-duplicates found among 1,000 documents: is the text column right?"]
    assert loud_lines(out) == [f"! {figures['remarks'][0]}"]


def test_more_than_half_dropped_is_said_loudly(duplicates, tmp_path):
    code, out, _, figures = duplicates(write(tmp_path / "corpus", {"s": [(EXACT, "x")] * 9 + [(NEAR, "x")]}))
    assert code == 0 and (figures["exact_copies"], figures["kept"]) == (8, 2)
    assert loud_lines(out) == ["! verdicts: 8 of 10 documents are near-duplicates: more than half of the corpus"]


def test_all_unusable_is_a_report_too(duplicates, tmp_path):
    code, out, err, figures = duplicates(write(tmp_path / "corpus", {"s": [(None, "x"), ("", "x"), (" ", None)]}))
    assert code == 0, err
    assert (figures["unusable"], figures["kept"], figures["characters"]) == (3, 0, 0)
    assert loud_lines(out) == ["! no duplicates found"]


def test_json_lines_are_a_corpus_too(duplicates, tmp_path):
    lines = [
        {"text": EXACT, "from": "x", "stars": 1},
        {"text": EXACT, "from": "y", "stars": 2},
        {"text": NEAR, "from": "x", "stars": 3},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err, figures = duplicates(tmp_path / "c.jsonl", "--source", "from", "--text", "text")
    assert code == 0, err
    assert figures["exact_copies"] == 1 and figures["sources"]["sources"][0]["name"] == "y"
    _, _, _, figures = duplicates(tmp_path / "c.jsonl", "--keep", "highest:stars")
    assert figures["largest"][0]["members"][0]["row"] == 1
    code, _, err, _ = duplicates(tmp_path / "c.jsonl", "--source", "nowhere")
    assert code == 3 and "no column 'nowhere'" in err and "text" in err


def test_a_limit_leaves_documents(duplicates, planted):
    _, out, _, figures = duplicates(planted, "--limit", 1, "--unit-mb", "0.001")
    assert figures["documents"] + figures["not_reached"] == DOCUMENTS and figures["not_reached"] > 0
    assert "not reached (--limit)" in out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--text", "txt"], 3, ["no column 'txt'", "text, name, source, number, tree", "--text"]),
        (["--id", "nr"], 3, ["no column 'nr'", "text, name, source", "without --id"]),
        (["--source", "sauce"], 3, ["no column 'sauce'", "text, name, source"]),
        (["--source", "tree"], 2, ["'tree' can't name sources", "list"]),
        (["--keep", "highest:best"], 3, ["no column 'best'", "text, name, source"]),
        (["--keep", "nicest"], 2, ['"longest", "earliest" or "highest:NAME"', "nicest"]),
        (["--bands", "9"], 2, ["--bands 9,13", "'9'"]),
        (["--bands", "nine,13"], 2, ["--bands 9,13", "nine,13"]),
        (["--bands", "0,13"], 2, ["at least 1", "(0, 13)"]),
        (["--bands", "90,13"], 2, ["at most permutations=128"]),
        (["--group-bands", "x"], 2, ["--group-bands"]),
        (["--permutations", "64"], 2, ["group_bands=(32, 4)", "permutations=64"]),
        (["--threshold", "0"], 2, ["thresholds must satisfy", "threshold=0"]),
        (["--threshold", "2"], 2, ["thresholds must satisfy", "threshold=2"]),
        (["--threshold", "nan"], 2, ["thresholds must satisfy"]),
        (["--threshold", "high"], 2, ["not a valid float"]),
        (["--most", "0"], 2, ["most must be at least 1"]),
        (["--shingle", "0"], 2, ["shingle must be at least 1"]),
        (["--tokens", "bytes"], 2, ["'words', 'characters'"]),
        (["--unit-mb", "nan"], 2, ["--unit-mb must be above 0"]),
        (["--against", "nowhere"], 3, ["no such file"]),
        (["--json", "nowhere/x.json"], 2, ["there is no directory", "nowhere"]),
        (["--clusters", "-1"], 2, ["--clusters"]),
    ],
)
def test_a_wrong_option_says_what_is_right(annotate, planted, tmp_path, monkeypatch, arguments, exit_code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("annotate.cli.local_ray.ray_running", lambda address, console: pytest.fail("Ray was started"))
    code, _, err = annotate("duplicates", planted, "--workdir", "out", *arguments)
    assert code == exit_code and all(words in err for words in said), err


def test_a_corpus_that_cannot_be_read_says_why(annotate, duplicates, tmp_path):
    (tmp_path / "text.parquet").write_text("not Parquet")
    write(tmp_path / "empty", {"s": [("x", "x")]})
    pq.write_table(pq.read_table(tmp_path / "empty" / "s.parquet").slice(0, 0), tmp_path / "empty" / "s.parquet")
    for corpus, said in [("nowhere", "no such file"), ("text.parquet", "not Parquet"), ("empty", "has no rows")]:
        code, _, err, _ = duplicates(tmp_path / corpus)
        assert code == 3 and said in err, err


def test_a_later_file_without_the_source_is_named(duplicates, tmp_path):
    corpus = write(tmp_path / "corpus", PLANTED)
    pq.write_table(pa.table({"text": [text(7)], "other": [1]}), corpus / "z.parquet")
    code, _, err, _ = duplicates(corpus, "--source", "source")
    assert code == 3 and "z.parquet has no column 'source'; it has: text, other" in err
    code, _, _, figures = duplicates(corpus)
    assert code == 0 and figures["documents"] == DOCUMENTS + 1


def test_files_that_cannot_be_read_can_be_passed_over(duplicates, planted, tmp_path):
    write(tmp_path / "corpus", PLANTED)
    (tmp_path / "corpus" / "z.parquet").write_text("not Parquet")
    assert duplicates(tmp_path / "corpus")[0] == 3
    code, out, _, figures = duplicates(tmp_path / "corpus", "--unreadable", "quarantine")
    assert code == 0 and figures["documents"] == DOCUMENTS
    assert any("1 file can't be read" in line for line in loud_lines(out))


def test_the_work_directory_of_a_pipeline_is_refused(annotate, planted, finished, tree):
    before = tree(finished)
    code, _, err = annotate("duplicates", planted, "--workdir", finished)
    assert code == 2 and "is the work directory of a pipeline" in err and "annotations" in err
    assert tree(finished) == before


def test_the_command_runs_by_itself(ray_cluster, planted, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "annotate", "duplicates", str(planted), "--workdir", "out", "--workers", "1"],
        env={**os.environ, "RAY_ADDRESS": os.environ["TEST_RAY_ADDRESS"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "exact copies, dropped" in done.stdout and "Traceback" not in done.stderr


def test_help_lists_it(annotate):
    code, out, _ = annotate("--help")
    assert code == 0 and "duplicates" in out
    code, out, _ = annotate("duplicates", "--help")
    assert code == 0 and "--source" in out and "CORPUS" in out


def test_a_report_reads_no_other_stages_than_it_asks_for(planted):
    from annotate.stages.corpus import Corpus

    for threshold, span, grouped in ((0.45, None, False), (0.45, 100, True), (0.8, None, True)):
        verdicts = NearDuplicates(Corpus(str(planted), id=None), threshold=threshold, group_span=span)
        names = [stage.name for stage in engine.filter_alone(verdicts).values()]
        assert names == ["verdicts", "similarity", "keepers", *(["groups"] if grouped else [])]
