"""Sizes as formulas in the sizes of the input: ``"2*batch*seq"``. Only arithmetic can be said in them.

>>> value("batch*(seq + 1) // 2", {"batch": 3.0, "seq": 5.0})
9.0
>>> value(4096.0, {})
4096.0
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, TypeAlias

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Num

Size: TypeAlias = float | str
"""A number, or a formula in the names of sizes."""

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub)
_FUNCTIONS: Mapping[str, Any] = {
    "min": np.minimum,
    "max": np.maximum,
    "floor": np.floor,
    "ceil": np.ceil,
    "__builtins__": {},
}
_LONGEST = 4000


def value(size: Size, sizes: Mapping[str, Num]) -> Num:
    """What a size is where the inputs have ``sizes`` (floats or arrays that broadcast).

    Errors: ``bad_work`` for a formula that is no arithmetic, or that names a size which is not there.
    """
    if not isinstance(size, str):
        return float(size)
    code, names = compiled(size)
    missing = [name for name in names if name not in sizes]
    if missing:
        known = ", ".join(sizes) or "none"
        raise RidgepointError(
            "bad_work", f"the formula '{size}' names the size '{missing[0]}'", f"known sizes: {known}"
        )
    try:
        found = eval(code, dict(_FUNCTIONS), {name: sizes[name] for name in names})
    except (ArithmeticError, TypeError) as error:
        raise RidgepointError(
            "bad_work", f"the formula '{size}' has no value here: {error}", "give other sizes"
        ) from None
    return found if isinstance(found, np.ndarray) and found.ndim else float(found)


_COMPARISONS: Mapping[str, Any] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "!=": np.not_equal,
}


def comparison(condition: str) -> tuple[str, str, str]:
    """A condition's left side, sign and right side.

    >>> comparison("batch*seq <= 4096")
    ('batch*seq', '<=', '4096')

    Errors: ``bad_work`` for what compares no formulas.
    """
    parts = condition.split(" ")
    signs = [at for at, word in enumerate(parts) if word in _COMPARISONS]
    if len(signs) != 1:
        raise RidgepointError("bad_work", f"'{condition[:80]}' is no condition", "write it like 'batch*seq <= 4096'")
    return " ".join(parts[: signs[0]]), parts[signs[0]], " ".join(parts[signs[0] + 1 :])


def holds(condition: str, sizes: Mapping[str, Num]) -> bool:
    """Whether a condition holds for all of the given sizes.

    >>> holds("batch < 64", {"batch": 8.0}), holds("batch < 64", {"batch": np.array([8.0, 64.0])})
    (True, False)
    """
    left, sign, right = comparison(condition)
    return bool(np.all(_COMPARISONS[sign](value(left, sizes), value(right, sizes))))


@lru_cache(maxsize=65536)
def compiled(formula: str) -> tuple[CodeType, tuple[str, ...]]:
    """A formula's code and the sizes that it names; anything but arithmetic is refused."""
    try:
        if len(formula) > _LONGEST:
            raise ValueError
        tree = ast.parse(formula, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) is int:
                node.value = float(node.value)  # whole numbers would grow without end
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        names = tuple(sorted({name for node in ast.walk(tree) if (name := _checked(node, id(node) in called))}))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RidgepointError(
            "bad_work",
            f"'{formula[:80]}' is no formula",
            "use numbers, names of sizes, + - * / // % ** min max floor ceil",
        ) from None
    return compile(tree, "<formula>", "eval"), names


def _checked(node: ast.AST, called: bool) -> str | None:
    """The size that a node names, if it names one; ValueError for what is no arithmetic."""
    match node:
        case ast.Name(id=name) if called or name not in _FUNCTIONS:
            return None if called else name
        case ast.Constant(value=number) if isinstance(number, int | float) and not isinstance(number, bool):
            return None
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS and name != "__builtins__":
            return None
        case ast.Expression() | ast.BinOp() | ast.UnaryOp() | ast.Load():
            return None
        case ast.operator() | ast.unaryop() if isinstance(node, _OPERATORS):
            return None
    raise ValueError
