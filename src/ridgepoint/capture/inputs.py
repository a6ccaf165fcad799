"""Inputs as people write them: ``x: float32[B,3,224,224]``, ``tokens: int64[B,S=2048]``.

Dimensions are numbers, names, or formulas in names; ``NAME=N`` says a usual size. ``B`` is the batch, ``S`` the length of a
sequence (``seq``); every other name is a size of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.formula import Size, compiled, value

SHORT = {"B": "batch", "S": "seq"}
USUAL = {"batch": 1.0, "seq": 1024.0}
TYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int8", "uint8", "bool", "complex64")
_SPEC = re.compile(r"\s*([A-Za-z_]\w*)\s*:\s*([A-Za-z_]\w*)\s*\[(.*)\]\s*")
_HINT = "write it like 'x: float32[B,3,224,224]', with a usual size for further names: 'x: float32[B,T=128,80]'"


@dataclass(frozen=True)
class Input:
    """One input of a model: the name of its parameter, its type, its dimensions as formulas."""

    name: str
    type: str
    dims: tuple[Size, ...]

    def shape(self, sizes: Mapping[str, Any]) -> tuple[Any, ...]:
        """Its shape where the sizes are given, as numbers or as letters of a symbolic recording."""
        return tuple(
            sizes[d] if isinstance(d, str) and d in sizes else round(float(value(d, sizes))) for d in self.dims
        )


@dataclass(frozen=True)
class Inputs:
    """All inputs of a model, and the usual sizes of the names in them, the batch included."""

    inputs: tuple[Input, ...]
    sizes: dict[str, float]


def read_inputs(written: Iterable[str]) -> Inputs:
    """What ``--input`` options say.

    >>> read_inputs(["x: float32[B, 3, H=224, H]"])
    Inputs(inputs=(Input(name='x', type='float32', dims=('batch', 3.0, 'H', 'H')),), sizes={'H': 224.0, 'batch': 1.0})

    Errors: ``bad_input`` with how to write it.
    """
    found: list[Input] = []
    sizes: dict[str, float] = {}
    for text in written:
        match = _SPEC.fullmatch(text)
        if match is None:
            raise RidgepointError("bad_input", f"--input is '{text}'", _HINT)
        name, kind, inside = match.groups()
        if kind not in TYPES:
            raise RidgepointError(
                "bad_input", f"--input {name} has the type '{kind}'", "use one of " + ", ".join(TYPES)
            )
        dims = tuple(_dimension(part.strip(), sizes, text) for part in inside.split(",") if part.strip())
        found.append(Input(name, kind, dims))
    named = [n for item in found for d in item.dims if isinstance(d, str) for n in compiled(d)[1]]
    for size in dict.fromkeys(named):
        if size not in sizes and size not in USUAL:
            raise RidgepointError(
                "bad_input", f"the size '{size}' has no usual value", f"write {size}=N where it stands"
            )
        sizes.setdefault(size, USUAL.get(size, 1.0))
    return Inputs(tuple(found), sizes)


def _dimension(text: str, sizes: dict[str, float], whole: str) -> Size:
    name, equals, usual = (part.strip() for part in text.partition("="))
    try:
        if equals:
            if not name.isidentifier():
                raise ValueError
            sizes[SHORT.get(name, name)] = float(int(usual))
        formula = re.sub(r"[A-Za-z_]\w*", lambda m: SHORT.get(m[0], m[0]), name)
        names = compiled(formula)[1]
        return formula if names else float(value(formula, {}))
    except (ValueError, RidgepointError):
        raise RidgepointError("bad_input", f"'{text}' is no dimension in --input '{whole}'", _HINT) from None
