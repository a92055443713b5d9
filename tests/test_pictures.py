"""Pictures show the numbers they are given."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from annotate.pictures import Line, dots_picture, matrix_picture, picture

SPACE = "{http://www.w3.org/2000/svg}"


def test_a_picture_is_svg_that_shows_each_line() -> None:
    lines = {"true <&>": Line(values=[0.0, 1.0, math.nan], low=[-0.1, 0.9, math.nan], high=[0.1, 1.1, math.nan])}
    root = ET.fromstring(picture("Gap", "nats", [10, 20, 40], lines))
    texts = [text.text for text in root.iter(f"{SPACE}text")]
    assert {"Gap", "nats; shaded: 95 % intervals", "10", "20", "40", "true <&>", "0", "1"} <= set(texts)
    assert len([*root.iter(f"{SPACE}circle")]) == 2  # what is not known is not drawn
    (line,) = root.iter(f"{SPACE}polyline")
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.get("points").split())
    assert x1 < x2 and y1 > y2
    one = ET.fromstring(picture("One", "nats", [7], {"a": Line(values=[2.0])}))
    title, unit = [text for text in one.iter(f"{SPACE}text") if text.text in ("One", "nats")]
    assert float(unit.get("y")) - float(title.get("y")) > float(title.get("font-size"))  # lines of their own


def test_an_axis_need_not_be_one_of_doublings() -> None:
    root = ET.fromstring(picture("E", "share", [0, 0.5, 2], {"a": Line(values=[0, 1, 2])}, axis="w", doublings=False))
    xs = [float(circle.get("cx")) for circle in root.iter(f"{SPACE}circle")]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(0.25, abs=1e-3)
    assert {"w", "0", "0.5", "2"} <= {text.text for text in root.iter(f"{SPACE}text")}


def test_a_matrix_has_a_cell_for_each_value_with_its_colour() -> None:
    root = ET.fromstring(matrix_picture("M", "row of column", ["<a>", "<b>"], [[0.5, -0.25], [math.nan, 0.0]], 0.5))
    cells = [rect for rect in root.iter(f"{SPACE}rect") if rect.get("fill-opacity")]
    strength = [float(rect.get("fill-opacity")) for rect in cells]
    assert strength == pytest.approx([0.85, 0.42, 0, 0], abs=0.01)
    assert cells[0].get("fill") != cells[1].get("fill")
    assert float(cells[1].get("x")) > float(cells[0].get("x")) and cells[1].get("y") == cells[0].get("y")
    texts = [text.text for text in root.iter(f"{SPACE}text")]
    assert texts.count("<a>") == 2 and {"+0.500", "-0.250", "-", "+0.000"} <= set(texts)


def test_dots_stand_on_the_bars_of_their_intervals() -> None:
    lines = {
        "true": Line(values=[1.0, -1.0], low=[0.5, -2.0], high=[1.5, 0.0]),
        "corpus": Line(values=[2.0, math.nan], low=[2.0, math.nan], high=[2.0, math.nan]),
    }
    root = ET.fromstring(dots_picture("D", "score", ["<a>", "<b>"], lines))
    dots = [*root.iter(f"{SPACE}circle")]
    assert len(dots) == 3  # what is not known is not drawn
    bars = {line.get("x1"): line for line in root.iter(f"{SPACE}line") if line.get("x1") == line.get("x2")}
    for dot in dots:
        bar = bars[dot.get("cx")]
        assert float(bar.get("y2")) <= float(dot.get("cy")) <= float(bar.get("y1"))
    assert float(dots[0].get("cx")) < float(dots[2].get("cx")) < float(dots[1].get("cx"))
    assert {"<a>", "<b>", "true", "corpus"} <= {text.text for text in root.iter(f"{SPACE}text")}
