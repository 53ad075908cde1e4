"""What the project prints and what its pages say, as text with its place: strings, public docstrings, suites, Markdown.

A string of the code counts as printed where it is more than a key or an identifier. An f-string is one text, with `{}`
in the place of each value, so that a phrase on both sides of a value is one phrase.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

__all__ = ["Banned", "Found", "Printed", "banned_words", "offences", "printed_in", "sources"]

ROOT = Path(__file__).parents[1]
CODE = ("circuit_assertions", "fixtures", "benchmarks", "docs")
_KEY = re.compile(r"[\w.:/*-]*\Z")  # what has no space and no punctuation of a sentence: a key, a name, a path
_MARKUP = re.compile(r"<\w+ |<[\w/]+>|\{(?: |\\n)*[\w-]+:|\bfill: ")  # SVG and CSS
_PATTERN_MAKERS = frozenset({"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"})
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_OUTPUT_OF = re.compile(r"<!-- output of ")
_FENCE = re.compile(r"\s*(```+|~~~+)\s*(\w*)")
_OUTPUTS = frozenset({"", "text", "console"})  # the languages of blocks that show what a command prints
_YAML_PROSE = frozenset({"why", "notes", "source", "suite"})


@dataclass(frozen=True)
class Printed:
    """A text that somebody may read.

    Attributes:
        kind: `printed`, `docstring`, `page`, `output` (a block of a page that shows what a command prints) or `suite`.
        line: the line of its first character, counted from 1.
    """

    file: Path
    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Banned:
    """A phrase that no text may have.

    Attributes:
        phrase: a regular expression; a space in it is any white space, and it matches whole words alone.
        instead: what to write.
        allow: contexts, as regular expressions, in which the phrase is right.
        kinds: the kinds of texts that it is banned from; empty for all.
    """

    phrase: re.Pattern[str]
    instead: str
    allow: tuple[re.Pattern[str], ...] = ()
    kinds: frozenset[str] = frozenset()

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where `text` has the phrase, but for the contexts in which it may stand."""
        right = [match.span() for allowed in self.allow for match in allowed.finditer(text)]
        for match in self.phrase.finditer(text):
            if not any(first <= match.start() and match.end() <= last for first, last in right):
                yield match.span()


@dataclass(frozen=True)
class Found:
    """A banned phrase at its place."""

    file: Path
    line: int
    said: str
    instead: str

    def __str__(self) -> str:
        file = self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file
        return f"{file}:{self.line}: {self.said!r}: write {self.instead}"


def sources() -> list[Path]:
    """Every file of the project that is printed from or read by people."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "fixtures" / "README.md"]
    pages += [ROOT / "CHANGELOG.md"] if (ROOT / "CHANGELOG.md").is_file() else []
    suites = sorted((ROOT / "suites").rglob("*.yaml"))
    code = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    return [*code, *pages, *suites, ROOT / "Makefile"]


def banned_words(file: Path) -> list[Banned]:
    """The table of banned words."""
    entries = tomllib.loads(file.read_text())["banned"]
    return [
        Banned(
            _words(entry["phrase"]),
            entry["instead"],
            tuple(_spaced(one) for one in entry.get("allow", ())),
            frozenset(entry.get("kinds", ())),
        )
        for entry in entries
    ]


def offences(text: Printed, banned: Iterable[Banned]) -> Iterator[Found]:
    """Every banned phrase in a text, with its line."""
    for entry in banned:
        if not entry.kinds or text.kind in entry.kinds:
            for first, last in entry.spans(text.text):
                line = text.line + text.text.count("\n", 0, first)
                yield Found(text.file, line, " ".join(text.text[first:last].split()), entry.instead)


def printed_in(file: Path) -> list[Printed]:
    """The texts of a file, by its name."""
    if file.suffix == ".py":
        return list(_of_code(file, ast.parse(file.read_text())))
    if file.suffix == ".md":
        return list(_of_page(file, file.read_text().splitlines()))
    if file.suffix == ".yaml":
        return list(_of_suite(file, file.read_text()))
    return list(_comments(file, file.read_text(), "page"))


def _words(phrase: str) -> re.Pattern[str]:
    first = r"(?<![\w-])" if re.match(r"\(*\w", phrase) else ""
    return re.compile(rf"{first}(?:{_spaced(phrase).pattern})(?![\w-])", re.IGNORECASE | re.MULTILINE)


def _spaced(phrase: str) -> re.Pattern[str]:
    return re.compile(re.sub(r" (?![{*+?])", r"\\s+", phrase), re.IGNORECASE)


def _of_code(file: Path, tree: ast.Module) -> Iterator[Printed]:
    docstrings = {id(node): public for node, public in _docstrings(tree, True)}
    left_out = {id(node) for node in _not_printed(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = [piece.value if isinstance(piece, ast.Constant) else "{}" for piece in node.values]
            text = "".join(map(str, pieces))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if id(node) in docstrings:
            if docstrings[id(node)]:
                yield Printed(file, node.lineno, "docstring", text)
        elif id(node) not in left_out and not _KEY.match(text) and not _MARKUP.search(text):
            yield Printed(file, node.lineno, "printed", text)


def _docstrings(node: ast.AST, public: bool) -> Iterator[tuple[ast.Constant, bool]]:
    """Docstrings, and whether the thing and all that it stands in are public; what stands in a function is not."""
    if isinstance(node, (ast.Module, *_DEFINITIONS)) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            yield first.value, public
    for child in ast.iter_child_nodes(node):
        shown = not (isinstance(child, _DEFINITIONS) and child.name.startswith("_"))
        inside = isinstance(node, (ast.Module, ast.ClassDef))
        yield from _docstrings(child, public and shown and inside)


def _not_printed(tree: ast.Module) -> Iterator[ast.AST]:
    """Patterns, format specifications, pieces of f-strings (which count as a whole), and values of `Literal`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from (piece for piece in node.values if isinstance(piece, ast.Constant))
        elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            yield from ast.walk(node.format_spec)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            yield from ast.walk(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if of_re and node.func.attr in _PATTERN_MAKERS and node.args:
                yield from ast.walk(node.args[0])


def _of_page(file: Path, lines: list[str]) -> Iterator[Printed]:
    """Prose paragraph by paragraph, and the blocks that show an output; other blocks are code."""
    kept: list[str] = []
    began, fence, shown, after_mark = 1, "", False, False
    for number, line in enumerate(lines, start=1):
        found = _FENCE.match(line)
        if found and (not fence or line.strip() == fence):
            if kept:
                yield Printed(file, began, "output" if fence else "page", "\n".join(kept))
            shown = not fence and (after_mark or found[2] in _OUTPUTS)
            fence, kept, began = "" if fence else found[1], [], number + 1
        elif fence and not shown:
            began = number + 1
        elif not fence and not line.strip():
            if kept:
                yield Printed(file, began, "page", "\n".join(kept))
            kept, began = [], number + 1
        elif not _OUTPUT_OF.match(line):
            kept.append(line)
        else:
            began = number + 1
        after_mark = bool(_OUTPUT_OF.match(line))
    if kept:
        yield Printed(file, began, "page", "\n".join(kept))


def _of_suite(file: Path, text: str) -> Iterator[Printed]:
    yield from _comments(file, text, "suite")
    waiting = [yaml.compose(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value in _YAML_PROSE and isinstance(value, yaml.ScalarNode):
                    yield Printed(file, value.start_mark.line + 1, "suite", value.value)
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _comments(file: Path, text: str, kind: str) -> Iterator[Printed]:
    """Comments, neighbouring lines together: a sentence may go on in the next."""
    kept: list[str] = []
    began = 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        comment = re.match(r"\s*#\s?(.*)", line)
        if comment:
            kept.append(comment[1])
        else:
            if kept:
                yield Printed(file, began, kind, "\n".join(kept))
            kept, began = [], number + 1
