"""The code knows no circuit by name: names of circuits and roles stand in the chain files alone.

The rule: no string in a .py file of the package holds the name of a packaged chain or of one of its roles as a whole
word; `induction-score` is another word than `induction`. Docstrings may, and so may the file of the kind of task whose
chain it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import circuit_assertions
from circuit_assertions.assertions.chains import UNEXPLAINED, chains_beside
from circuit_assertions.places import packaged_suites
from circuit_assertions.tasks import kinds

PACKAGE = Path(circuit_assertions.__file__).parent
PACKAGED = chains_beside(packaged_suites(), own=packaged_suites())
NAMES = {*PACKAGED.names, *PACKAGED.roles}
WORDS = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(NAMES)))})(?![\w-])")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def files_of_kinds() -> set[Path]:
    """The files of the kinds of tasks that have a chain."""
    modules = [kind.__module__ for kind in kinds().values() if kind.circuit]
    return {PACKAGE.parent / f"{module.replace('.', '/')}.py" for module in modules}


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string that is not a docstring, those in f-strings among them, with its line."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def named_in(text: str) -> list[str]:
    """The lines of a file whose strings name a circuit or a role."""
    return [f"{line}: {value!r}" for line, value in strings(ast.parse(text)) if WORDS.search(value)]


def test_no_file_but_those_of_the_tasks_names_a_circuit_or_a_role() -> None:
    files = sorted(set(PACKAGE.rglob("*.py")) - files_of_kinds())
    assert len(files) > 100
    found = [f"{file.relative_to(PACKAGE)}:{line}" for file in files for line in named_in(file.read_text())]
    assert found == []


def test_the_files_of_the_tasks_are_where_the_chains_are_named() -> None:
    for file in files_of_kinds():
        assert named_in(file.read_text())


def test_every_kind_with_a_circuit_has_its_chain() -> None:
    assert {kind.circuit for kind in kinds().values() if kind.circuit} <= set(PACKAGED.names)
    assert UNEXPLAINED not in NAMES


@pytest.mark.parametrize(
    "text",
    ["x = 'ioi'", "x = f'{y} of name-mover at {z}'", "f('write {query: name-mover}')", "x = {'induction': 1}"],
)
def test_a_name_is_seen_in_any_string(text: str) -> None:
    assert len(named_in(text)) == 1


@pytest.mark.parametrize("text", ['"""About ioi."""', "x = 'induction-score'", "ioi = 1", "x = 'the ioia'"])
def test_other_words_and_docstrings_are_not_names(text: str) -> None:
    assert named_in(text) == []
