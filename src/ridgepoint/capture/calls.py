"""Calls: what a program asked of its framework, one value per call, whichever framework it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Value:
    """A tensor as a call sees it: tensor ``id`` of the program, or a view of it.

    ``whole`` are the elements of the tensor behind a view: an expanded view reads no more than that, a slice less.
    """

    id: int
    shape: tuple[int, ...]
    format: str
    whole: int
    role: str = "activation"
    part: tuple[str, ...] = ()
    """What tells this view from others of the same tensor: offset and strides; empty where it is the tensor itself."""

    @property
    def elements(self) -> int:
        """Elements of the view."""
        return math.prod(self.shape)

    @property
    def touched(self) -> int:
        """Elements in memory that reading it touches."""
        fewer: int = smaller(self.elements, self.whole)
        return fewer


def number(size: Any) -> Any:
    """A size as rules compute with it: a float, or the letters of a symbolic recording as they are."""
    return float(size) if isinstance(size, int | float) else size


def larger(first: Any, *others: Any) -> Any:
    """The largest of sizes; of letters the formula that says so, for a comparison would hold at some sizes only."""
    for other in others:
        symbolic = getattr(first, "__sym_max__", None) or getattr(other, "__sym_max__", None)
        first = symbolic(other if hasattr(first, "__sym_max__") else first) if symbolic else max(first, other)
    return first


def smaller(first: Any, second: Any) -> Any:
    """The smaller of two sizes."""
    symbolic = getattr(first, "__sym_min__", None) or getattr(second, "__sym_min__", None)
    return symbolic(second if hasattr(first, "__sym_min__") else first) if symbolic else min(first, second)


@dataclass(frozen=True)
class Call:
    """One call: ``name`` without its library (``mm``), arguments, results, and where it stands in the program.

    ``pointwise``: the library says that every result element depends on the same element of the inputs alone.
    """

    name: str
    args: tuple[Any, ...]
    results: tuple[Value, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    shown: str = ""
    """The path as reports name it: members of a list of equal modules share one name."""
    line: str = ""
    backward: bool = False
    pointwise: bool = False
    leaf: bool = False
    """Whether the module at ``path`` has no modules inside."""

    def arg(self, position: int, name: str = "", default: Any = None) -> Any:
        """An argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """All tensors among the arguments, in order."""
        return tuple(tensors_of((self.args, tuple(self.kwargs.values()))))


def tensors_of(argument: Any) -> Iterator[Value]:
    """The tensors in an argument, in order."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, tuple | list):
        for item in argument:
            yield from tensors_of(item)
