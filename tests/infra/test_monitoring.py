"""Alerts and dashboard: their own tools take them, and each metric in them is one that annotate or Ray exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import ray
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from annotate.engine.metrics import METRICS, exported

INFRA = Path(__file__).parents[2] / "infra"
RULES = yaml.safe_load((INFRA / "prometheus-rules.yaml").read_text("utf-8"))
DASHBOARD = json.loads((INFRA / "grafana-dashboard.json").read_text("utf-8"))
OURS = {exported(name): metric for name, metric in METRICS.items()}
FUNCTIONS = {"sum", "by", "rate", "increase", "max", "avg", "and", "or", "on", "vector"}
ALWAYS = {"instance", "job"}  # labels that Prometheus puts on


def expressions():
    """Where each expression stands, and the expression."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def names(expression):
    """The metrics that an expression reads, and the labels that it groups by or chooses by."""
    chosen = re.findall(r"(\w+) *=~?\"", expression)
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    labels = {label.strip() for group in [*groups, *chosen] for label in group.split(",") if label.strip()}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|\b\d+\w*\b", " ", expression)
    return set(re.findall(r"[a-zA-Z_]\w*", bare)) - FUNCTIONS, labels


def of_ray():
    """The metrics that Ray exports: those that its own dashboards read, which come with it."""
    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    return {name for path in folder.glob("*.py") for name in re.findall(r"\bray_[a-z_]+\b", path.read_text("utf-8"))}


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_metrics_and_labels_are_those_that_are_exported(place, expression):
    metrics, labels = names(expression)
    assert metrics, place
    unknown = metrics - OURS.keys() - of_ray()
    assert not unknown, f"{place}: nobody exports {unknown}"
    for metric in metrics & OURS.keys():
        assert labels <= {*OURS[metric].tags, *ALWAYS}, f"{place}: {metric} has no label of {labels}"
        counter = OURS[metric].kind == "counter"
        grows = re.search(rf"(?:rate|increase)\({metric}", expression) is not None
        assert grows <= counter, f"{place}: a rate of the gauge {metric}"


def test_every_metric_of_ours_is_on_the_dashboard():
    shown = {metric for panel in DASHBOARD["panels"] for t in panel["targets"] for metric in names(t["expr"])[0]}
    assert shown >= OURS.keys()


def test_the_reader_of_expressions_finds_what_is_wrong():
    assert names("sum by (stage, node) (rate(ray_a_total[5m])) / on () ray_b > 0.05") == (
        {"ray_a_total", "ray_b"},
        {"stage", "node"},
    )
    assert names('rate(ray_a_total{phase="forward"}[5m])') == ({"ray_a_total"}, {"phase"})


def lost(mine, back, path=""):
    """What is in `mine` and not in `back`."""
    if isinstance(mine, dict):
        for key, value in mine.items():
            if not isinstance(back, dict) or key not in back:
                yield f"{path}.{key}"
            else:
                yield from lost(value, back[key], f"{path}.{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(back), path
        for number, value in enumerate(mine):
            yield from lost(value, back[number], f"{path}[{number}]")
    elif mine != back:
        yield f"{path}: {mine!r}, {back!r}"


def read_by_grafana(dashboard):
    """What Grafana's own types keep of a dashboard."""
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(dashboard))), cls=JSONEncoder))


def test_grafanas_own_types_keep_all_of_the_dashboard():
    assert list(lost(DASHBOARD, read_by_grafana(DASHBOARD))) == []
    wrong = json.loads(json.dumps(DASHBOARD))
    wrong["panels"][0]["fieldConfig"]["defaults"]["unti"] = "s"
    wrong["panels"][-1]["targets"][0]["legend"] = "x"
    assert list(lost(wrong, read_by_grafana(wrong))) == [
        ".panels[0].fieldConfig.defaults.unti",
        f".panels[{len(wrong['panels']) - 1}].targets[0].legend",
    ]


def test_panels_fill_the_page_without_gaps():
    rows = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        rows.setdefault((place["y"], place["h"]), []).append((place["x"], place["w"]))
    y = 0
    for (top, height), columns in sorted(rows.items()):
        assert top == y and sum(width for _, width in columns) == 24
        y += height
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_alert_says_what_is_wrong_and_what_to_do():
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "remedy"} and rule["labels"]["severity"]


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed; `.ci/promtool` gets it from Debian")
    return found


def test_prometheus_takes_the_rules_and_they_fire_when_they_should(promtool):
    for what in (["check", "rules", "prometheus-rules.yaml"], ["test", "rules", "prometheus-rules.test.yaml"]):
        done = subprocess.run([promtool, *what], cwd=INFRA, capture_output=True, text=True)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
