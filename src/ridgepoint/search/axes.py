"""The axes of a sweep: what varies, over which values, and how people write them.

batch=1:256:log2          1, 2, 4 … 256          context=1k,8k,128k        a list
seq=512:4096:512          every 512th             image_px=64:1024:x4       by a factor
weights=bf16,fp8,int4     formats                 graphs=on,off             flags
model=gpt2,llama-3.1-8b   machine=h100-sxm; h100-sxm@bandwidth=4.8T,memory=141G    (; where values hold commas)
machine.bandwidth=2T,4T   any figure of the machine
apply=none; kv-quantization:format=int4; kv-quantization+speculative-decoding           techniques
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.settings import SETTINGS, canonical
from ridgepoint.numeric import Array
from ridgepoint.plan import Plan
from ridgepoint.request import PLAN_KEYS, option, sizes_of
from ridgepoint.tasks import TASKS
from ridgepoint.units import parse_count

Value = float | str | bool
SUBJECTS = ("model", "machine", "task", "apply")
NO_TECHNIQUE = "none"
MACHINE = "machine."
"""What comes before a figure of the machine."""
SIZES = tuple(dict.fromkeys(size for task in TASKS for size in sizes_of(task)))
_TYPES = {f.name: str(f.type) for f in fields(Plan) if f.name in PLAN_KEYS}
FLAGS = tuple(name for name, kind in _TYPES.items() if "bool" in kind)
DEGREES = tuple(name for name, kind in _TYPES.items() if "Num" in kind)
"""What a plan takes arrays of: parallel degrees and other numbers."""
NUMBERS = tuple(n for n, kind in _TYPES.items() if n not in DEGREES and ("float" in kind or "int" in kind))
VECTORISED = (*SIZES, *DEGREES)
"""Axes that one estimate takes as arrays, beside the inputs of networks; the others cost one estimate per value."""
MOST_VALUES = 1_000_000
_WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_MODES = {"compiled": True, "eager": False}
_EXAMPLE = "write it like batch=1:256:log2 or context=1k,8k,128k"


@dataclass(frozen=True)
class Axis:
    """One thing that varies: its name as in a plan, a task or ``machine.bandwidth``, and its values in order."""

    name: str
    values: tuple[Value, ...]

    @property
    def vectorised(self) -> bool:
        """Whether one estimate takes all values at once."""
        return self.name in VECTORISED or self.is_input

    @property
    def is_input(self) -> bool:
        """Whether the name can only be a size of a network's input."""
        return self.name not in (*SUBJECTS, *SIZES, *PLAN_KEYS) and not self.name.startswith(MACHINE)

    @property
    def words(self) -> str:
        """The name as people write it."""
        return self.name.replace("_", "-")

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, so that a chart can place them on a line."""
        return all(isinstance(v, float) for v in self.values)

    def array(self) -> Array:
        """The values of a vectorised axis."""
        return np.array(self.values, dtype=np.float64)

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as people write them."""
        return tuple(text_of(v) for v in self.values)


def text_of(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    return str(value)


def parse_axis(text: str) -> Axis:
    """The axis that ``NAME=VALUES`` says.

    >>> parse_axis("batch=1:8:log2")
    Axis(name='batch', values=(1.0, 2.0, 4.0, 8.0))
    >>> parse_axis("zero=0,1").name, parse_axis("mode=eager,compiled").values
    ('zero_stage', (False, True))

    Errors: ``bad_vary`` for what cannot be read, with the nearest name.
    """
    name, equals, spec = (part.strip() for part in text.partition("="))
    if not name or not equals or not spec:
        raise RidgepointError("bad_vary", f"'{text}' says no axis", _EXAMPLE)
    return axis(name, spec)


def axis(name: str, values: object) -> Axis:
    """An axis from its name and either a text of values or values themselves (numbers, names, flags, an array).

    >>> axis("context", [1024, "8k"]).values
    (1024.0, 8192.0)
    """
    key = key_of(name)
    given = values if isinstance(values, str) else _listed(name, values)
    found = _texts(key, name, given) if isinstance(given, str) else [_value(key, name, v) for v in given]
    if not found:
        raise RidgepointError("bad_vary", f"{name} has no values", _EXAMPLE)
    if len(found) > MOST_VALUES:
        raise RidgepointError("bad_vary", f"{name} has {len(found):,} values", f"give at most {MOST_VALUES:,}")
    if len(set(found)) < len(found):
        twice = next(v for i, v in enumerate(found) if v in found[:i])
        raise RidgepointError("bad_vary", f"{name} says {text_of(twice)} twice", "say it once")
    return Axis(key, tuple(found))


def _listed(name: str, values: object) -> list[object]:
    if isinstance(values, np.ndarray):
        return list(values.ravel().tolist())
    if isinstance(values, Iterable) and not isinstance(values, Mapping):
        return list(values)
    raise RidgepointError("bad_vary", f"{name} is {values!r}", "give a list of values, or text such as 1:256:log2")


def key_of(name: str) -> str:
    """The name that task, plan or machine give to what ``name`` says; names of networks' inputs stay as they are.

    >>> key_of("micro-batch"), key_of("--graphs"), key_of("machine.hbm"), key_of("on")
    ('micro_batch', 'graph_capture', 'machine.bandwidth', 'machine')
    """
    if name.startswith(MACHINE):
        return MACHINE + canonical(name.removeprefix(MACHINE))
    word = name.lstrip("-")
    said = {option(key).lstrip("-"): key for key in PLAN_KEYS} | {"on": "machine"}
    folded = said.get(word, word.replace("-", "_"))
    return folded if folded in (*SUBJECTS, *SIZES, *PLAN_KEYS) else word


def techniques_of(value: Value) -> tuple[str, ...]:
    """The techniques that a value of the axis ``apply`` names.

    >>> techniques_of("none"), techniques_of("a:x=1 + b")
    ((), ('a:x=1', 'b'))
    """
    return () if value == NO_TECHNIQUE else tuple(part.strip() for part in str(value).split("+"))


def unknown_axis(name: str, known: Iterable[str]) -> RidgepointError:
    """The error for an axis that the scenario does not have."""
    everything = [*known, *SUBJECTS, *PLAN_KEYS]
    close = nearest(name, everything, count=1)
    hint = f"did you mean {close[0]}?" if close else "it has " + ", ".join(everything) + f", {MACHINE}FIGURE"
    return RidgepointError("bad_vary", f"there is nothing called '{name}' to vary here", hint)


def _texts(key: str, name: str, spec: str) -> list[Value]:
    if ":" in spec and _is_number(key):
        return [*_spaced(key, name, spec)]
    parts = [part.strip() for part in spec.split(";" if ";" in spec else ",")]
    return [_value(key, name, part) for part in parts if part]


def _is_number(key: str) -> bool:
    return key in (*SIZES, *DEGREES, *NUMBERS) or Axis(key, ()).is_input


def _spaced(key: str, name: str, spec: str) -> list[float]:
    """``first:last``, ``first:last:step``, ``first:last:xFACTOR``, ``first:last:log2`` and ``:log10``."""
    parts = [part.strip() for part in spec.split(":")]
    if len(parts) not in (2, 3):
        raise RidgepointError("bad_vary", f"{name}: '{spec}' is no range", "write it like 1:256:log2 or 512:4096:512")
    first, last = (float(_value(key, name, part)) for part in parts[:2])
    how = parts[2] if len(parts) == 3 else "1"
    factor = {"log2": 2.0, "log10": 10.0}.get(how) or (_count(name, how[1:]) if how.startswith("x") else None)
    step = None if factor else _count(name, how)
    if last < first or (factor is not None and (factor <= 1.0 or first <= 0.0)) or (step is not None and step <= 0.0):
        hint = "the first must be at most the last, a step above 0, a factor above 1"
        raise RidgepointError("bad_vary", f"{name}: '{spec}' is no range", hint)
    slack = 1e-9  # rounding must not drop the last value
    if factor is not None:
        count = math.floor(math.log(last / first) / math.log(factor) + slack) + 1
        return [first * factor**i for i in range(_few(name, count))]
    count = math.floor((last - first) / (step or 1.0) + slack) + 1
    return [first + i * (step or 1.0) for i in range(_few(name, count))]


def _few(name: str, count: int) -> int:
    if count > MOST_VALUES:
        raise RidgepointError("bad_vary", f"{name} has {count:,} values", f"give at most {MOST_VALUES:,}")
    return count


def _count(name: str, text: object) -> float:
    try:
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise RidgepointError("bad_count", f"{text!r} is not a count", "write it like 32 or 8k")
        return parse_count(text)
    except RidgepointError as error:
        raise RidgepointError("bad_vary", f"{name}: {error.message}", error.hint) from None


def _value(key: str, name: str, value: object) -> Value:
    if key in NUMBERS:
        return _number(name, value)
    if _is_number(key):
        return _count(name, value)
    if key in FLAGS:
        return _flag(key, name, value)
    if key.startswith(MACHINE) and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value:
        return value
    what = SETTINGS[key.removeprefix(MACHINE)].meaning if key.startswith(MACHINE) else f"a name for {key}"
    raise RidgepointError("bad_vary", f"{name}: {value!r} is no value", f"give {what}")


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)  # type: ignore[arg-type]  # what float refuses is the error below
    except (TypeError, ValueError):
        raise RidgepointError("bad_vary", f"{name}: {value!r} is not a number", "write it like 0.9") from None


def _flag(key: str, name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = _MODES | _WORDS if key == "compiled" else _WORDS
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    hint = "use eager or compiled" if key == "compiled" else "use on or off"
    raise RidgepointError("bad_vary", f"{name}: {value!r} is no flag", hint)
