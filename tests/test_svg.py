"""What every figure has, whatever it shows: text that is text, round ticks, names that can be read, the same style."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from circuit_assertions.printable import printable
from circuit_assertions.report.svg import PALETTE, Axes, Canvas, Scale, picture

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(-1e6, 1e6, allow_nan=False)
SPAN = st.tuples(VALUES, VALUES).map(sorted).filter(lambda ends: ends[1] - ends[0] > 1e-3)
WORDS = st.text(max_size=40)


def parsed(canvas: Canvas) -> ElementTree.Element:
    return ElementTree.fromstring(canvas.rendered())


@given(WORDS, WORDS)
def test_no_text_can_break_a_picture_or_become_a_part_of_it(title: str, words: str) -> None:
    canvas = picture(100, 80, title)
    canvas.text(1, 2, words, "tick")
    canvas.add("rect", width=1, height=1, fill=words).add("title", words)
    root = parsed(canvas)
    assert root.attrib.get("aria-label", "") == printable(title)
    assert (root.findtext(f"{SVG}title") or "") == printable(title)
    assert [text.text or "" for text in root.iter(f"{SVG}text")] == [printable(words)]
    assert len(list(root.iter())) == 7


@given(SPAN)
def test_ticks_are_a_few_round_values_within_the_axis_and_equally_far_apart(ends: list[float]) -> None:
    low, high = ends
    ticks = Scale((low, high), (0, 100)).ticks()
    slack = (high - low) * 1e-9
    assert 3 <= len(ticks) <= 7
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    steps = {round((after - before) / (high - low), 6) for before, after in pairwise(ticks)}
    assert len(steps) == 1
    if low < 0 < high:
        assert 0.0 in ticks


@given(st.floats(1e-6, 1e6), st.floats(2, 1e6))
def test_a_logarithmic_axis_has_powers_of_ten_and_equal_ratios_equally_long(low: float, ratio: float) -> None:
    scale = Scale((low, low * ratio), (10, 210), logarithmic=True)
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in scale.ticks())
    assert scale.at(low * math.sqrt(ratio)) == pytest.approx(110, abs=1e-3)


@given(SPAN, st.lists(VALUES, min_size=2))
def test_an_axis_keeps_the_order_of_values(ends: list[float], values: list[float]) -> None:
    scale = Scale((ends[0], ends[1]), (0, 100))
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert (scale.at(ends[0]), scale.at(ends[1])) == pytest.approx((0, 100))


def test_an_axis_of_one_value_has_it_in_the_middle() -> None:
    assert Scale((3, 3), (0, 100)).at(3) == 50


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.just("tick"), st.floats(0, 100)), max_size=8))
def test_names_at_the_ends_of_lines_do_not_lie_on_each_other(ends: list[tuple[str, str, float]]) -> None:
    canvas = picture(200, 200, "x")
    Axes(canvas, Scale((0, 1), (0, 100)), Scale((0, 1), (100, 0))).names(ends)
    texts = list(parsed(canvas).iter(f"{SVG}text"))
    assert sorted(text.text or "" for text in texts) == sorted(name for name, _, _ in ends)
    heights = [float(text.attrib["y"]) for text in texts]
    assert all(below - above >= 14.8 for above, below in pairwise(heights))


@given(st.lists(st.floats(0, 100), min_size=1, unique=True), st.floats(1, 50))
def test_names_of_steps_leave_each_other_room(steps: list[float], apart: float) -> None:
    assume(apart > 1)
    canvas = picture(200, 200, "x")
    axes = Axes(canvas, Scale((0, 100), (0, 100)), Scale((0, 1), (100, 0)))
    axes.steps([(step, "s") for step in sorted(steps)], "title", apart)
    *names, title = parsed(canvas).iter(f"{SVG}text")
    places = [float(name.attrib["x"]) for name in names]
    assert title.text == "title"
    assert names
    assert all(after - before > apart - 0.2 for before, after in pairwise(places))


def test_lines_bands_and_rules_lie_where_the_axes_say() -> None:
    canvas = picture(200, 200, "x")
    axes = Axes(canvas, Scale((0, 10), (50, 150)), Scale((-1, 1), (100, 0)))
    axes.grid("{:g}".format)
    axes.band([(0, -1), (10, 0)], [(0, 0), (10, 1)], "blue")
    assert axes.line([(0, 0), (10, 1)], "blue", says=lambda x, y: f"{y:g} at {x:g}") == [(50, 50), (150, 0)]
    root = parsed(canvas)
    assert [line.attrib["class"] for line in root.iter(f"{SVG}line")].count("zero") == 1
    (path,) = root.iter(f"{SVG}path")
    assert (path.attrib["d"], path.attrib["class"]) == ("M50 50 L150 0", "line-blue")
    (band,) = root.iter(f"{SVG}polygon")
    assert band.attrib["points"] == "50,50 150,0 150,50 50,100"
    assert [mark.findtext(f"{SVG}title") for mark in root.iter(f"{SVG}circle")] == ["0 at 0", "1 at 10"]


def test_every_colour_has_a_shade_for_light_pages_and_one_for_dark_ones() -> None:
    style = parsed(picture(1, 1, "x")).findtext(f"{SVG}style")
    assert style is not None
    light, dark = style.split("prefers-color-scheme: dark")
    for name, (on_light, on_dark) in PALETTE.items():
        assert f".fill-{name} {{ fill: {on_light} }}" in light
        assert f".fill-{name} {{ fill: {on_dark} }}" in dark
    always = parsed(picture(1, 1, "x", dark=False)).findtext(f"{SVG}style")
    assert always is not None
    assert "prefers-color-scheme" not in always


def test_a_part_that_was_moved_is_drawn_at_its_place() -> None:
    canvas = picture(10, 10, "x")
    canvas.moved(3, 4.5).text(0, 0, "here")
    (group,) = parsed(canvas).iter(f"{SVG}g")
    assert group.attrib["transform"] == "translate(3 4.5)"
    assert group.findtext(f"{SVG}text") == "here"
