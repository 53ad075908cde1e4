"""Where a test compares what is printed with a whole phrase, instead of with the names and numbers in it.

A phrase is four or more lower-case words in a row. It counts where it is compared: in an assertion, with `in`, in
`match=`, and in the arguments of what searches a text (`says`, `re.search`, `fnmatch_lines`). It counts as well where
such a comparison takes it from: a name, a column of `parametrize` or of a loop, a parameter of a helper of the same
file. The arguments of every other call are inputs of a test (prompts, YAML), and so is a name that is given to such a
call: what a test gets back of its own inputs is not the product's prose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Quoted", "quoted_prose"]

# The end of a name (`config.json`, `name-mover`) is no word of a phrase.
_PHRASE = re.compile(r"(?<![\w./-])(?:[a-z]+(?:'s)?[,;]? ){3,}[a-z]+(?![\w-])")
_SEARCHES = frozenset(
    {"says", "search", "match", "fullmatch", "findall", "finditer", "startswith", "endswith", "count", "index", "find"}
    | {"fnmatch_lines", "re_match_lines", "no_fnmatch_line", "no_re_match_line", "partition", "rpartition"}
    | {"removeprefix", "removesuffix"}
)
_PASSES_ON = frozenset(
    {"any", "all", "next", "sum", "sorted", "list", "tuple", "set", "dict", "str", "zip", "escape", "join", "format"}
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Columns = Iterable[tuple[str, ast.expr]]


@dataclass(frozen=True, order=True)
class Quoted:
    """A phrase that a test compares with, and the line of its text."""

    line: int
    phrase: str


@dataclass
class _Scope:
    """What the names of a function or a file stand for, which of them are inputs, and what is compared."""

    values: dict[str, list[ast.expr]] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    compared: list[ast.expr] = field(default_factory=list)

    @classmethod
    def of(cls, root: ast.AST, helpers: dict[str, set[int | str]]) -> _Scope:
        scope = cls()
        for node in ast.walk(root):
            for name, value in _named(node):
                scope.values.setdefault(name, []).append(value)
            scope.compared += _compared_by(node, helpers)
            if isinstance(node, ast.Call) and _called(node) not in _SEARCHES | _PASSES_ON | helpers.keys():
                given = [*node.args, *(one.value for one in node.keywords if one.arg != "match")]
                scope.inputs |= {leaf.id for one in given for leaf in _leaves(one) if isinstance(leaf, ast.Name)}
        return scope

    def names(self) -> set[str]:
        """The names that are compared."""
        leaves = (leaf for one in self.compared for leaf in _leaves(one))
        return {leaf.id for leaf in leaves if isinstance(leaf, ast.Name)}


def quoted_prose(source: str) -> list[Quoted]:
    """The phrases that the source of a test file compares with, in the order of their lines.

    Raises:
        SyntaxError: the source is no Python.
    """
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    helpers = {function.name: found for function in functions if (found := _compared_parameters(function))}
    whole = _Scope.of(tree, helpers)
    expressions = list(whole.compared)
    for function in functions:
        own = _Scope.of(function, helpers)
        for name in own.names():
            if name in own.values:
                expressions += own.values[name] if name not in own.inputs else []
            elif name not in whole.inputs:
                expressions += whole.values.get(name, [])
    return sorted({Quoted(line, phrase) for one in expressions for line, phrase in _phrases(one)})


def _compared_parameters(function: _Function) -> set[int | str]:
    """The parameters that a helper compares with, by place and by name; those of tests come from `parametrize`."""
    if function.name.startswith("test"):
        return set()
    scope = _Scope.of(function, {})
    wanted = scope.names() - scope.inputs - set(scope.values)
    named: set[int | str] = {one.arg for one in function.args.kwonlyargs if one.arg in wanted}
    for place, one in enumerate([*function.args.posonlyargs, *function.args.args]):
        named |= {place, one.arg} if one.arg in wanted else set()
    return named


def _compared_by(node: ast.AST, helpers: dict[str, set[int | str]]) -> list[ast.expr]:
    if isinstance(node, ast.Assert):
        return [node.test]
    if isinstance(node, ast.Compare) and any(isinstance(one, (ast.In, ast.NotIn)) for one in node.ops):
        return [node]
    if not isinstance(node, ast.Call):
        return []
    name = _called(node)
    taken = helpers.get(name, set())
    found = [one.value for one in node.keywords if one.arg == "match" or one.arg in taken]
    found += [one for place, one in enumerate(node.args) if name in _SEARCHES or place in taken]
    return found


def _named(node: ast.AST) -> _Columns:
    """The names that a statement gives to expressions, by columns where it gives several."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return _pairs(node.targets[0], [node.value])
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return _pairs(node.target, [node.value])
    if isinstance(node, (ast.For, ast.comprehension)):
        return _pairs(node.target, _rows(node.iter))
    if isinstance(node, ast.Call) and _called(node) == "parametrize" and len(node.args) >= 2:
        names = node.args[0]
        if isinstance(names, ast.Constant):
            words = [ast.Name(word.strip()) for word in str(names.value).split(",")]
            return _pairs(words[0] if len(words) == 1 else ast.Tuple(list(words)), _rows(node.args[1]))
        if isinstance(names, (ast.Tuple, ast.List)):
            words = [ast.Name(str(one.value)) for one in names.elts if isinstance(one, ast.Constant)]
            return _pairs(ast.Tuple(list(words)), _rows(node.args[1]))
    return []


def _rows(node: ast.expr) -> list[ast.expr]:
    """The elements of what is written out; the keys and values of `{...}.items()` as pairs."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "items":
        of = node.func.value
        if isinstance(of, ast.Dict):
            return [ast.Tuple([key, value]) for key, value in zip(of.keys, of.values, strict=True) if key is not None]
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else []


def _pairs(target: ast.expr, rows: list[ast.expr]) -> Iterator[tuple[str, ast.expr]]:
    for row in rows:
        if isinstance(row, ast.Call) and _called(row) == "param":
            row = ast.Tuple(row.args) if isinstance(target, ast.Tuple) else row.args[0]
        if isinstance(target, ast.Name):
            yield target.id, row
        elif isinstance(target, ast.Tuple) and isinstance(row, (ast.Tuple, ast.List)):
            for one, value in zip(target.elts, row.elts, strict=False):
                yield from _pairs(one, [value])


def _leaves(node: ast.AST) -> Iterator[ast.expr]:
    """Texts and names in an expression, but for the arguments of calls that make something of them."""
    if isinstance(node, (ast.Constant, ast.Name, ast.JoinedStr)):
        yield node
    if isinstance(node, ast.Call):
        inside: list[ast.AST] = [node.func, *node.args] if _called(node) in _SEARCHES | _PASSES_ON else []
    else:
        inside = list(ast.iter_child_nodes(node)) if not isinstance(node, ast.Constant) else []
    for child in inside:
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):  # it counts as a whole
            yield from _leaves(child)


def _phrases(expression: ast.expr) -> Iterator[tuple[int, str]]:
    for leaf in _leaves(expression):
        text = ""
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
            text = leaf.value
        elif isinstance(leaf, ast.JoinedStr):
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in leaf.values)
        for match in _PHRASE.finditer(text):
            yield leaf.lineno, match[0]


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""
