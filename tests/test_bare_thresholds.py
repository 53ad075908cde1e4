"""No threshold is in the code of diagnosis and discovery, or of their figures: all are in the policy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "circuit_assertions"
FILES = (
    *(file for room in ("diagnosis", "tuning") for file in sorted((PACKAGE / room).rglob("*.py"))),
    *(PACKAGE / name for name in ("assertions/recovered_share.py", "measures/figures.py")),
    *(PACKAGE / "report" / name for name in ("diagnosed.py", "diagnosis_told.py")),
)
USUAL = (-1, 0, 1, 2)

# What is a number and decides no verdict, each with the reason.
NO_THRESHOLDS = (
    "diagnosis/expression.py: _SHOWN = 5",  # how many single components a report names
    "diagnosis/recovery.py: _SHOWN = 5",  # how many carriers a report names
    "diagnosis/recovery.py: _FEWEST_RANKED = 3",  # two heads are in the same order or in the other: no correlation
    "diagnosis/levels.py: _OF_A_HEAD = 5",  # how many intervals of a head there are, which share a level
    "diagnosis/levels.py: RACED_FROM = 64",  # from how many heads on reading in races is faster
    "diagnosis/discovery/racing.py: _FIRST = 16",  # where a race begins; its error does not depend on it
    "diagnosis/discovery/yaml_text.py: WIDTH = 110",  # of the lines
    "diagnosis/discovery/suite_file.py: _TIMES = 4",  # how many prompts a written suite may ask; people change it
    "diagnosis/rediscovery.py: _ALONE = 3",  # how many intervals there are, which share a level
    "diagnosis/discovery/circuit_file.py: _DIGITS = 3",  # to how many digits a circuit file is written
    "diagnosis/discovery/thresholds.py: _NOTHING = 1e-100",  # below it a number has no digits to be rounded to
    "diagnosis/discovery/follow_chain.py: abs(mean) >= max(floor, 1e-12)",  # an effect of zero
    "diagnosis/function.py: 100 * policy.reversed_role_below < percent < 0",  # a share in per cent
    "diagnosis/function.py: percent <= 100",  # a share in per cent
    "diagnosis/discovery/follow_chain.py: max(floor, 1e-12)",  # the same
    "measures/figures.py: _TENTH = 0.1",  # which share is written in a word
    "measures/figures.py: _NOTHING = 1e-06",  # what is printed as 0
    "measures/figures.py: 0.1 <= abs(float(short)) < 1000",  # how many digits are printed
    "report/diagnosis_told.py: _FEW_TO_NAME = 8",  # how many components a line names
    "report/diagnosed.py: _WIDTH = 110",  # of the lines
    "diagnosis/showing.py: _PROMPTS = 3",  # how many a report shows as text
    "diagnosis/showing.py: _MOST_HEADS = 24",  # whose attention a report shows
    "diagnosis/discovery/mlps.py: abs(one.mean) >= max(floor * stage.times, 1e-12)",  # an effect of zero
    "diagnosis/discovery/mlps.py: max(floor * stage.times, 1e-12)",  # the same
    "diagnosis/masks.py: PENALTIES = (0.3, 0.1, 0.03, 0.01)",  # which are tried; the result has all of them
    "diagnosis/masks.py: _ENOUGH = 0.95",  # of the best: which of these penalties is reported
    "diagnosis/masks.py: _RANDOM = 10",  # how many random sets there are
    "diagnosis/masks.py: _STEPS, _BATCH, _RATE = (30, 32, 0.1)",  # how masks are learned
    "diagnosis/edges.py: steps: int = 5",  # at how many points gradients are averaged
    "tuning/pruned.py: _GROWTH = 4",  # how fast the sets of pruned units grow
    "tuning/wrapping.py: _TEXTS, _TEXT_LENGTH = (32, 48)",  # how much ordinary text the baseline writes
    "tuning/measures.py: _RATE, _BATCH = (0.0001, 16)",  # how the measure fine-tunes
    "tuning/measures.py: _TOKENS = 5",  # how many tokens a reading's settings name
    "tuning/readouts.py: _TEXTS = 32",  # to how many texts directions are added
    "tuning/readouts.py: _IDENTITY_PROMPTS, _PAIRS = (4, 4)",  # the prompts of Patchscope
    "tuning/readouts.py: _LENGTHS = (0.5, 1.0, 2.0)",  # which lengths Patchscope tries; it decides no verdict
    "tuning/standing_out.py: _NORMAL = 1.4826",  # a normal variable's deviation over its median absolute deviation
    "tuning/steered.py: _TEXTS, _LENGTH = (4, 24)",  # texts that a result shows
    "tuning/steered.py: _RANGE = (0.05, 50.0)",  # among which strengths of steering are searched
    "tuning/tracing.py: _DOMAIN_WORDS = 50",  # how many words of a domain are marked
    "tuning/tracing.py: _LOSS_LENGTH = 64",  # tokens of a row whose loss is read
    "tuning/measures.py: _STEPS = 32",  # for how long; the measure's help says it
)


def numbers_in(node: ast.AST) -> Iterator[float]:
    """Every number of an expression, with its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        yield from (-number for number in numbers_in(node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from numbers_in(child)


def constants_of(body: list[ast.stmt]) -> Iterator[str]:
    """Assignments of a module or a class that give a name a number."""
    for statement in body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            plain = isinstance(statement.value, (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Tuple))
            if plain and any(number not in USUAL for number in numbers_in(statement.value)):
                yield ast.unparse(statement)


def defaults_of(function: ast.FunctionDef) -> Iterator[str]:
    """Parameters whose default is a number."""
    spoken = function.args
    behind = [*spoken.posonlyargs, *spoken.args][-len(spoken.defaults) :] if spoken.defaults else []
    pairs = [*zip(behind, spoken.defaults, strict=True), *zip(spoken.kwonlyargs, spoken.kw_defaults, strict=True)]
    for parameter, default in pairs:
        if isinstance(default, (ast.Constant, ast.UnaryOp)) and any(one not in USUAL for one in numbers_in(default)):
            yield f"{ast.unparse(parameter)} = {ast.unparse(default)}"


def bare_numbers(text: str) -> list[str]:
    """The numbers of a module that may be thresholds: constants, defaults, and what is compared with or bounded by."""
    tree = ast.parse(text)
    found = list(constants_of(tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found += constants_of(node.body)
        if isinstance(node, ast.FunctionDef):
            found += defaults_of(node)
        bounding = isinstance(node, ast.Call) and ast.unparse(node.func) in ("min", "max")
        if (bounding or isinstance(node, ast.Compare)) and any(number not in USUAL for number in numbers_in(node)):
            found.append(ast.unparse(node))
    return found


def test_every_threshold_is_in_the_policy() -> None:
    found = {
        f"{file.relative_to(PACKAGE)}: {one}"
        for file in FILES
        for one in bare_numbers(file.read_text(encoding="utf-8"))
    }
    new = found - set(NO_THRESHOLDS)
    assert not new, f"put it into circuit_assertions/policy, with its origin: {sorted(new)}"
    assert not set(NO_THRESHOLDS) - found, "these are gone: remove them from the list"


@pytest.mark.parametrize(
    "text",
    [
        "_LEAST = 0.3",
        "_LEAST: float = -0.3",
        "_BOTH = 0.3, 1",
        "class A:\n    least: float = 0.3",
        "def f(share):\n    return share < 0.3",
        "def f(share, all):\n    return 0 < share <= 5 * all",
        "def f(share, least=0.3):\n    return share < least",
        "def f(share):\n    return max(0.3, share)",
        "def f(share, *, least=12):\n    return share < least",
    ],
)
def test_a_new_number_is_found(text: str) -> None:
    assert bare_numbers(text)


@pytest.mark.parametrize("text", ["_NAMES = ('a',)", "def f(a):\n    return a > -1 and a / 2 != 1", "_FIRST = 0"])
def test_what_is_no_threshold_is_not_found(text: str) -> None:
    assert not bare_numbers(text)
