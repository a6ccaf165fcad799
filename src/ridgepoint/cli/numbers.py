"""Numbers that several commands read from their options."""

from __future__ import annotations

from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_count


def whole_number(option: str, text: str, least: int = 1) -> int:
    """The count that an option says.

    >>> whole_number("--requests", "2k")
    2048

    Errors: ``bad_count`` for what is no count, ``bad_option`` for a part of one and for fewer than ``least``.
    """
    found = parse_count(text)
    if found != int(found) or found < least:
        raise RidgepointError("bad_option", f"{option} is '{text}'", f"give a whole number of at least {least}")
    return int(found)


def per_second(text: str) -> float:
    """The rate that ``--rate`` says.

    Errors: ``bad_option``.
    """
    try:
        found = float(text)
    except ValueError:
        raise RidgepointError("bad_option", f"--rate is '{text}'", "give requests per second, like 10") from None
    if not 0.0 < found < 1e9:
        raise RidgepointError("bad_option", f"--rate is {found:g}", "give a positive number of requests per second")
    return found
