"""Units at the edges: text such as ``3.35 TB/s`` in, SI floats inside, readable text out.

Inside the project every number is SI and carries its unit in its name (``bytes``, ``flop_per_s``, ``time_s``).
GB is 1e9 bytes; GiB is 2**30.
"""

from __future__ import annotations

import math
import re

from ridgepoint.errors import RidgepointError

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

# Written unit -> (canonical unit, factor, prefixes that it takes).
_UNITS: dict[str, tuple[str, float, dict[str, float]]] = {
    "B": ("B", 1.0, _DECIMAL | _BINARY),
    "b": ("B", 0.125, _DECIMAL),
    "FLOP": ("FLOP", 1.0, _DECIMAL),
    "OP": ("FLOP", 1.0, _DECIMAL),
    "W": ("W", 1.0, _DECIMAL | _SMALL),
    "J": ("J", 1.0, _DECIMAL | _SMALL),
    "Hz": ("Hz", 1.0, _DECIMAL),
    "s": ("s", 1.0, _SMALL | {"": 1.0}),
    "min": ("s", 60.0, {"": 1.0}),
    "h": ("s", 3600.0, {"": 1.0}),
    "d": ("s", 86400.0, {"": 1.0}),
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµμ]*?)(/s|ps)?\s*$")


def parse_quantity(text: str | float, unit: str) -> float:
    """The SI value of a quantity whose canonical unit is ``unit`` (``B``, ``B/s``, ``FLOP/s``, ``s``, ``W``, ``Hz``).

    Numbers without a unit are taken as SI; a prefix alone is enough (``400T`` for FLOP/s).

    >>> parse_quantity("3.35 TB/s", "B/s")
    3350000000000.0
    >>> parse_quantity("400 Gb/s", "B/s"), parse_quantity("50 MiB", "B"), parse_quantity("20ms", "s")
    (50000000000.0, 52428800.0, 0.02)
    >>> parse_quantity("989.4T", "FLOP/s")
    989400000000000.0
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _finite(float(text), str(text), unit)
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None:
        raise _bad(text, unit)
    number, written, per_second = float(match[1]), match[2], match[3]
    canonical = unit.removesuffix("/s")
    if per_second == "ps" and canonical == unit:  # picoseconds, not "per second"
        written, per_second = f"{written}ps", None
    if written in _DECIMAL and not per_second:
        return _finite(number * _DECIMAL[written], text, unit)
    factor = _factor(written, canonical)
    if factor is None or bool(per_second) != unit.endswith("/s"):
        raise _bad(text, unit)
    return _finite(number * factor, text, unit)


def _factor(written: str, canonical: str) -> float | None:
    for name, (base, scale, prefixes) in _UNITS.items():
        if base == canonical and written.endswith(name):
            prefix = prefixes.get(written[: len(written) - len(name)])
            if prefix is not None:
                return scale * prefix
    return None


def _finite(value: float, text: object, unit: str) -> float:
    if not math.isfinite(value):
        raise _bad(text, unit)
    return value


def _bad(text: object, unit: str) -> RidgepointError:
    example = {"B": "80 GB", "B/s": "3.35 TB/s", "FLOP/s": "989 TFLOP/s", "s": "20 ms", "W": "700 W", "Hz": "1.8 GHz"}
    return RidgepointError(
        "bad_quantity", f"'{text}' is not a quantity in {unit}", f"write it like {example.get(unit)}"
    )


def parse_count(text: str | float) -> float:
    """A count of tokens, sequences or devices; k, M, G are powers of 1024 as in the field's `8k context`.

    >>> parse_count("8k"), parse_count("131072"), parse_count("1.5k")
    (8192.0, 131072.0, 1536.0)
    """
    match = _QUANTITY.match(str(text))
    scale = {"": 1.0, "k": 1024.0, "K": 1024.0, "M": 1024.0**2, "G": 1024.0**3}
    if match is None or match[2] not in scale or match[3]:
        raise RidgepointError("bad_count", f"'{text}' is not a count", "write it like 32, 8192 or 8k (= 8192)")
    return _finite(float(match[1]) * scale[match[2]], text, "count")


def si(value: float, unit: str, digits: int = 3) -> str:
    """A value with an SI prefix and ``digits`` significant digits.

    >>> si(3.35e12, "B/s"), si(0.0, "J"), si(1500, "W"), si(999.96, "B")
    ('3.35 TB/s', '0 J', '1.50 kW', '1.00 kB')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    prefixes = (
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "µ"),
        (1e-9, "n"),
    )
    rounded = float(f"{abs(value):.{digits - 1}e}")
    scale, prefix = next(((s, p) for s, p in prefixes if rounded >= s), (1e-12, "p"))
    return f"{significant(value / scale, digits)} {prefix}{unit}"


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and without an exponent.

    >>> significant(3.14159), significant(31.4159), significant(3141.59)
    ('3.14', '31.4', '3,142')
    """
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}")))))
    return f"{value:,.{decimals}f}"


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(0.0142), duration(3.2e-6), duration(90.0), duration(2e6), duration(3.24e10)
    ('14.2 ms', '3.20 µs', '1.50 min', '23.1 days', '1,027 years')
    """
    if not math.isfinite(seconds):
        return f"{seconds:g} s"
    for scale, name in ((31557600.0, "years"), (86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * scale:
            return f"{significant(seconds / scale)} {name}"
    return si(seconds, "s")
