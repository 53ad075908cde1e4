"""The report as one page: its order, its size, that it needs nothing else, and that names from elsewhere are text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import HOSTILE, audit_of, circuit, hostile_result, large_result, made_line, run_result

from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable
from circuit_assertions.report import page as pages
from circuit_assertions.report.headmap import shade
from circuit_assertions.report.page import MOST_BYTES, PageError, page
from circuit_assertions.report.page.maps import contrast, map_group, map_styles
from circuit_assertions.report.verdict_sentence import WORST_FIRST, gate_sentence, worst_first
from circuit_assertions.results import AuditResult, Figure
from circuit_assertions.results.audit import GateVerdict
from circuit_assertions.verdict_words import Outcome

VOID = {"meta", "link", "br", "img", "input", "hr", "line", "circle", "polyline", "polygon"}
QUICK = 10.0  # seconds, on a machine that others use too


class Read(HTMLParser):
    """A page as a browser reads it: elements with attributes, and texts by the element that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def words(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))


@pytest.fixture(scope="module")
def hostile() -> str:
    return page(hostile_result())


def test_the_verdict_comes_first_and_the_settings_last() -> None:
    text = page(audit_of([*run_result().assertions, made_line(1, Outcome.BROKEN)], [circuit(3, 4)], run_result().runs))
    read = Read(text)
    (title,) = read.inside("title")
    (heading,) = read.inside("h1")
    assert title == heading == gate_sentence(audit_of([*run_result().assertions, made_line(1, Outcome.BROKEN)]))
    order = [one["id"] for one in read.all("section")]
    assert order == ["heads", "attention", "checkpoints", "assertions", "glossary", "settings"]
    links = [one["href"] for one in read.all("a") if (one["href"] or "").startswith("#")]
    assert {f"#{name}" for name in order} <= set(links)
    assert text.index("<h1") < text.index("<section")


def test_a_page_of_nothing_says_so() -> None:
    gate = GateVerdict(passed=True, exit_code=0, line="GATE: not judged")
    read = Read(page(AuditResult(gate=gate)))
    assert [one["id"] for one in read.all("section")] == ["assertions", "glossary", "settings"]


def test_it_needs_no_network_and_no_other_file(hostile: str) -> None:
    for text in (hostile, page(run_result())):
        read = Read(text)
        assert not [one for tag in ("img", "iframe", "object", "embed", "base", "form") for one in read.all(tag)]
        assert not [one["src"] for one in read.all("script") if "src" in one]
        assert [one["href"] for one in read.all("link")] == ["data:,"]
        assert all((one["href"] or "").startswith("#") for one in read.all("a"))
        style = "".join(read.inside("style"))
        assert "url(" not in style
        assert "@import" not in style
        script = "".join(read.inside("script"))
        assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(|eval\(|innerHTML", script)


def test_the_browser_is_told_to_run_nothing_but_the_pages_own_script(hostile: str) -> None:
    read = Read(hostile)
    (policy,) = [one["content"] or "" for one in read.all("meta") if one.get("http-equiv")]
    scripts = re.findall(r"<script>(.*?)</script>", hostile, re.DOTALL)
    assert len(scripts) == 1
    for name, text in (("script-src", scripts[0]), ("style-src", "".join(read.inside("style")))):
        found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{found}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not any(name.startswith("on") or name == "style" for _, own in read.elements for name in own)


def test_whatever_comes_from_elsewhere_is_text(hostile: str) -> None:
    read = Read(hostile)
    assert read.open == []
    for text in HOSTILE:
        shown = printable(text)
        places = [one for _, one in read.texts if shown in one]
        assert len(places) >= 20, text
    kinds = {tag for tag, _ in read.elements}
    assert not kinds & {"img", "b:b", "iframe"}
    assert all(character not in hostile for character in ("\u202e", "\u200b", "\x1b", "\r"))
    drawn = [own for tag, own in read.elements if tag == "svg"]
    assert all("onload" not in own for own in drawn)


@settings(max_examples=15, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_name_is_read_as_it_is_printed(name: str) -> None:
    read = Read(page(audit_of([made_line(1, Outcome.BROKEN, text=name)], [circuit(1, 2, text=name)])))
    assert read.open == []
    shown = printable(name)
    assert f"assertion-number-1{shown}" in read.inside("b")
    groups = [text for tag, text in read.texts if tag == "script" and text.startswith("{")]
    assert [json.loads(text)["unit"] for text in groups] == [f"logits{shown}"]


def test_the_largest_model_and_suite_stay_small_and_quick() -> None:
    result = large_result()
    start = time.perf_counter()
    text = page(result)
    assert time.perf_counter() - start < QUICK
    assert len(text.encode()) < MOST_BYTES / 4
    read = Read(text)
    assert len([one for one in read.all("tbody") if "data-verdict" in one]) == 500
    cells = [one for one in read.all("td") if re.fullmatch(r"[at]\d+( r)?", one.get("class") or "")]
    assert len(cells) == 3 * 48 * 48


def test_what_does_not_fit_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [made_line(place, Outcome.BROKEN) for place in range(30)]
    result = audit_of(lines, [circuit(12, 12, name=f"c{place}") for place in range(12)])
    whole = len(page(result).encode())
    monkeypatch.setattr(pages, "MOST_BYTES", whole - 1)
    less = page(result)
    assert len(less.encode()) < whole
    (note,) = [text for tag, text in Read(less).texts if tag == "p" and "JSON" in text]
    assert " 4 more circuits" in note
    monkeypatch.setattr(pages, "MOST_BYTES", 1000)
    with pytest.raises(PageError):
        page(result)


def test_assertions_are_in_the_table_with_what_was_read_the_worst_first() -> None:
    result = large_result()
    text = page(result)
    ids = re.findall(r'<td class="name"><b>([^<]*)</b>', text)
    assert ids == [line.id for line in worst_first(result.assertions)]
    ranks = [WORST_FIRST.index(Outcome.of(line.counted)) for line in worst_first(result.assertions)]
    assert all(one <= other for one, other in pairwise(ranks))
    for line in result.assertions[:20]:
        if line.rows:
            own = line.rows[0].figure
            assert f"{line.rows[0].name} {number(own.mean)} [{number(own.low)}, {number(own.high)}]" in text


def test_a_map_has_every_head_with_role_values_and_intervals() -> None:
    shown = circuit(3, 4)
    group = map_group(shown)
    assert group is not None
    assert [one.called for one in group.maps] == ["model", "baseline", "difference"]
    data = json.loads(group.data)
    assert len(data["heads"]) == 12
    for place, (name, effect) in enumerate(shown.effects.items()):
        roles, *told = data["heads"][place]
        own = [role for role, heads in shown.roles.items() if name in heads]
        assert [data["roles"][role] for role in roles] == own
        assert told == [interval(one) for one in (effect.after, effect.before, effect.change) if one is not None]
    layers = [layer for layer, _ in group.maps[0].rows]
    assert layers == [2, 1, 0]
    marked = [(layer, head) for layer, row in group.maps[0].rows for head, cell in enumerate(row) if cell.marked]
    assert marked == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert map_group(shown.model_copy(update={"effects": {}})) is None


def interval(figure: Figure) -> str:
    return f"{signed(figure.mean)} [{signed(figure.low)}, {signed(figure.high)}]"


def test_without_a_baseline_there_is_the_map_of_the_model() -> None:
    shown = circuit(2, 2)
    alone = {name: one.model_copy(update={"before": None, "change": None}) for name, one in shown.effects.items()}
    group = map_group(shown.model_copy(update={"effects": alone, "baseline": None}))
    assert group is not None
    assert [one.called for one in group.maps] == ["model"]
    assert all(len(one) == 2 for one in json.loads(group.data)["heads"])


def test_every_shade_can_be_read_on() -> None:
    rules = re.findall(r"\.map \.[at]\d+\{background:#(\w{6});color:#(\w{6})\}", map_styles())
    assert len(rules) == 42
    for fill, ink in rules:
        assert contrast(bytes.fromhex(fill), bytes.fromhex(ink)) >= 4.5
    assert shade(1.0, linear=True)[0] != shade(-1.0, linear=True)[0]


COLOURS = re.compile(r"--([\w-]+):(#\w+)")


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_on_their_grounds(dark: bool) -> None:
    style = (resources.files("circuit_assertions.report") / "templates" / "report.css").read_text("utf-8")
    blocks = re.findall(r":root\{([^}]*)\}", style)
    known = {name: value.ljust(7, value[-1]) for name, value in COLOURS.findall(blocks[1 if dark else 0])}

    def apart(one: str, other: str) -> float:
        return contrast(*(bytes.fromhex(known[name][1:]) for name in (one, other)))

    for ink in ("ink", "muted", "link", "good", "warn", "bad", "none"):
        assert apart(ink, "bg") >= 4.5, ink
        assert apart(ink, "panel") >= 4.5, ink
    for tone in ("good", "warn", "bad", "none"):
        assert apart(tone, f"{tone}-bg") >= 4.5, tone


def test_a_run_has_a_line_and_a_verdict_for_every_step() -> None:
    text = page(run_result())
    rows = re.findall(r'<tr class="turned"><th scope="row">([^<]*)', text)
    assert rows == ["breaks", "breaks"]  # along the run, and beside the other model
    assert text.count('class="spark"') == 2
    assert [f">{step}</th>" in text for step in (10, 20, 30)] == [True] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((Outcome.HELD, Outcome.HELD), ("passes", "2 of 2")),
        ((Outcome.HELD, Outcome.BROKEN, Outcome.SKIPPED), ("fails", "1 of 2", "broken")),
        ((Outcome.ERROR, Outcome.SKIPPED), ("fails", "1 of 2")),
        ((Outcome.BROKEN, Outcome.ERROR), ("fails", "1 of 1", "and 1")),
    ],
)
def test_the_first_sentence_says_what_decides(words: tuple[Outcome, ...], said: tuple[str, ...]) -> None:
    sentence = gate_sentence(audit_of([made_line(place, word) for place, word in enumerate(words)]))
    assert all(one in sentence for one in said)
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
