"""The report in a real browser: Debian's Chromium, driven by Playwright. Both must be installed, or the tests skip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_cases import HOSTILE, audit_of, circuit, hostile_result, large_result, made_line, run_result

from circuit_assertions.measures.figures import signed
from circuit_assertions.printable import printable
from circuit_assertions.report.explaining import figure_text
from circuit_assertions.report.page import page
from circuit_assertions.results import AuditResult, Figure
from circuit_assertions.verdict_words import Outcome

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
QUICK = 10.0  # seconds for all of it, on a machine that others use too
# Nothing of the machine's own is asked for: no update, no first-run page.
ARGUMENTS = ["--disable-background-networking", "--no-first-run", *(["--no-sandbox"] if os.geteuid() == 0 else [])]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs Playwright: pip install playwright"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]

Open = Callable[..., Any]


class Shown:
    """A page that was opened, and what it said and asked for."""

    def __init__(self, tab: Any, file: Path) -> None:
        self.tab = tab
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.goto(file.as_uri())
        assert self.asked == [file.as_uri()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a result. Whatever the page does, it says nothing and asks for nothing."""
    opened: list[tuple[Any, Shown]] = []

    def open_page(result: AuditResult, **context: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(page(result), encoding="utf-8")
        place = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        one = Shown(place.new_page(), file)
        opened.append((place, one))
        return one.tab

    yield open_page
    for place, one in opened:
        place.close()
        assert one.said == []
        assert len(one.asked) == 1, one.asked


def small() -> AuditResult:
    lines = [made_line(place, word) for place, word in enumerate(list(Outcome)[:3] * 4)]
    lines += [made_line(20, Outcome.SKIPPED), made_line(21, Outcome.ERROR)]
    return audit_of([line for line in lines if line.outcome != Outcome.WAIVED], [circuit(4, 4)])


def reads(tab: Any) -> list[str]:
    """What the visible rows say was read, in the order of the page."""
    found: list[str] = tab.eval_on_selector_all(
        "#table > tbody:not([hidden]) > tr:first-child > td[data-l=read]",
        "cells => cells.map(cell => cell.querySelector('.read')?.textContent ?? '')",
    )
    return found


def interval(figure: Figure | None) -> str:
    assert figure is not None
    return f"{signed(figure.mean)} [{signed(figure.low)}, {signed(figure.high)}]"


@pytest.mark.parametrize(
    "context",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"viewport": {"width": 390, "height": 844}},
        {"java_script_enabled": False},
    ],
    ids=["light", "dark", "narrow", "without-script"],
)
def test_it_opens_in_silence_and_fits(context: dict[str, Any], shown: Open) -> None:
    tab = shown(small(), **context)
    assert tab.title() == tab.inner_text("h1")
    assert tab.locator("#table > tbody").count() == len(small().assertions)
    if context.get("java_script_enabled", True):
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        grounds = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (grounds == "rgb(255, 255, 255)") == (context.get("color_scheme") != "dark")


def test_cells_say_what_the_result_says(shown: Open) -> None:
    result = AuditResult.model_validate_json(small().to_json())
    tab = shown(result)
    by_id = {line.id: line for line in result.assertions}
    rows = tab.locator("#table > tbody")
    for place in range(rows.count()):
        row = rows.nth(place)
        line = by_id[row.locator(".name b").inner_text()]
        assert row.locator(".badge").first.inner_text() == line.counted
        if line.rows and line.reading is not None:
            first = line.rows[0]
            read = row.locator(".read")
            assert read.inner_text() == f"{first.name} {figure_text(first.figure)} {line.reading.unit}"
            assert float(row.locator("td[data-l=read]").get_attribute("data-v")) == first.figure.mean
        else:
            assert row.locator(".reason").inner_text() == printable(line.reason).strip()


def test_pointing_at_a_head_shows_its_role_values_and_intervals(shown: Open) -> None:
    result = small()
    (drawn,) = result.circuits
    tab = shown(result)
    for layer, head in ((0, 1), (3, 2)):
        tab.locator("table.map").nth(1).locator(f"tr[data-layer='{layer}'] td").nth(head).hover()
        told = tab.locator("#tip").inner_text()
        effect = drawn.effects[f"L{layer}H{head}"]
        for figure in (effect.after, effect.before, effect.change):
            assert interval(figure) in told
        own = [role for role, heads in drawn.roles.items() if f"L{layer}H{head}" in heads]
        assert all(role in told for role in own)
        assert tab.locator("td.at").count() == 3  # the same head in all maps
    tab.locator("h1").hover()
    assert tab.locator("#tip").is_hidden()


def test_heads_are_reached_by_the_keyboard(shown: Open) -> None:
    tab = shown(small())
    first = tab.locator("table.map td[tabindex='0']").first
    first.focus()
    assert tab.locator("#tip h5").inner_text() == "L0H0"
    for key, name in (("ArrowRight", "L0H1"), ("ArrowUp", "L1H1"), ("End", "L1H3"), ("ArrowRight", "L1H3")):
        tab.keyboard.press(key)
        assert tab.locator("#tip h5").inner_text() == name
    assert "L1H3" in tab.evaluate("document.activeElement.getAttribute('aria-label')")
    tab.evaluate("scrollBy({top: 60, behavior: 'instant'})")
    tab.wait_for_timeout(50)
    box, cell = (tab.locator(one).bounding_box() for one in ("#tip", "td:focus"))
    assert abs(box["x"] - cell["x"]) < 2 or box["x"] + box["width"] <= 1280  # it stays with its head
    assert tab.locator("#tip").is_visible()
    tab.keyboard.press("Escape")
    assert tab.locator("#tip").is_hidden()
    tab.keyboard.press("Tab")  # out of the map: one stop for each
    assert tab.evaluate("document.activeElement.closest('table.map') !== document.querySelectorAll('table.map')[0]")


def test_the_table_is_sorted_by_values_in_both_directions(shown: Open) -> None:
    result = small()
    tab = shown(result)
    known = [line.rows[0].figure.mean for line in result.assertions if line.rows]
    unread = len(result.assertions) - len(known)
    by_text = {
        f"{line.rows[0].name} {figure_text(line.rows[0].figure)} {line.reading.unit}": line.rows[0].figure.mean
        for line in result.assertions
        if line.rows and line.reading is not None
    }
    button = tab.locator("#table > thead th", has_text="Read").locator("button")
    for down in (False, True):
        button.focus()
        tab.keyboard.press("Enter")
        texts = reads(tab)
        assert [by_text[text] for text in texts[: len(known)]] == sorted(known, reverse=down)
        assert texts[len(known) :] == [""] * unread
    assert tab.locator("#table > thead th[aria-sort=descending]").count() == 1
    tab.locator("#table > thead th button").nth(1).click()
    names = tab.locator("#table > tbody .name b").all_inner_texts()
    assert names == sorted(names, key=lambda name: int(name.rpartition("-")[2]))


def test_the_table_is_searched_and_filtered(shown: Open) -> None:
    result = small()
    tab = shown(result)
    count = len(result.assertions)
    tab.keyboard.press("/")
    tab.keyboard.type("number-1 name-mover")
    visible = tab.locator("#table > tbody:not([hidden]) .name b").all_inner_texts()
    wanted = [line.id for line in result.assertions if "number-1" in line.id]
    assert sorted(visible) == sorted(wanted)
    assert tab.inner_text("#shown") == f"{len(wanted)} of {count}"
    tab.keyboard.press("Escape")
    assert tab.inner_text("#shown") == f"{count} of {count}"
    broken = sum(line.counted == Outcome.BROKEN for line in result.assertions)
    tab.locator(f"a.count[data-verdict={Outcome.BROKEN}]").click()
    assert tab.locator("#table > tbody:not([hidden])").count() == broken
    tab.fill("#search", "nothing has this name")
    assert tab.locator("#none").is_visible()


def test_hostile_names_are_shown_and_do_nothing(shown: Open) -> None:
    result = hostile_result()
    tab = shown(result)
    assert tab.evaluate("window.broken") is None
    assert tab.locator("img, iframe, object").count() == 0
    said = tab.inner_text("body")
    for text in HOSTILE:
        assert printable(text) in said
    tab.locator("table.map td").nth(5).hover()
    assert printable(HOSTILE[0]) in tab.inner_text("#tip")
    for summary in tab.locator("#table details summary").all()[:3]:
        summary.click()
    assert tab.evaluate("window.broken") is None
    assert tab.locator("h1").evaluate("one => getComputedStyle(one).direction") == "ltr"


@pytest.mark.complete
def test_many_heads_and_assertions_stay_quick(shown: Open) -> None:
    tab = shown(large_result())
    start = time.perf_counter()
    tab.locator("#table > thead th button").nth(3).click()
    tab.fill("#search", "number-49")
    assert tab.locator("#table > tbody:not([hidden])").count() == 11
    tab.locator("table.map").first.locator("tr[data-layer='40'] td").nth(30).hover()
    assert tab.locator("#tip h5").inner_text() == "L40H30"
    assert time.perf_counter() - start < QUICK


def test_it_prints_what_is_folded_away_and_folds_it_again(shown: Open) -> None:
    tab = shown(run_result().model_copy(update={"circuits": (circuit(4, 4),)}))
    folded = "document.querySelectorAll('details.print-open:not([open])').length"
    before = tab.evaluate(folded)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert (before, tab.evaluate(folded)) == (1, 0)
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.locator(".bar").is_hidden()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(folded) == before
    assert tab.pdf().startswith(b"%PDF")
