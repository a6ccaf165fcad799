"""What options say of a deployment beyond its engine: shared devices, tiers of the cache, adapters, failures, scaling, power.

Words of one option stand between colons, most important first; those left out have the library's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ridgepoint.cli.numbers import whole_number
from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_quantity

Words = dict[str, Callable[[str], Any]]


def conditions(said: dict[str, str | None]) -> dict[str, Any]:
    """The fields of a deployment that were said, by name."""
    from ridgepoint.serving.adapters import Adapters
    from ridgepoint.serving.budget import PowerBudget
    from ridgepoint.serving.failures import Failures
    from ridgepoint.serving.scaling import Scaling
    from ridgepoint.serving.tiers import CacheTiers

    found: dict[str, Any] = {}
    host, disk = (said[name] for name in ("host_cache", "disk_cache"))
    if host is not None or disk is not None:
        found["tiers"] = CacheTiers(*(0.0 if v is None else parse_quantity(v, "B") for v in (host, disk)))
    if (text := said["adapters"]) is not None:
        words: Words = {"count": _whole, "rank": _whole, "slots": _whole, "skew": float, "share": float}
        found["adapters"] = Adapters(**_words("--adapters", text, words, "100:16:8"))
    if (text := said["failures"]) is not None:
        found["failures"] = Failures(**_words("--failures", text, {"mtbf_s": _time, "repair_s": _time}, "1000h:10min"))
    if (text := said["autoscale"]) is not None:
        words = {"target": float, "least": _whole, "start_s": _time, "patience_s": _time}
        found["scaling"] = Scaling(**_words("--autoscale", text, words, "32:1:2min"))
    if (text := said["power_budget"]) is not None:
        found["budget"] = PowerBudget(**_words("--power-budget", text, {"watts": _watts, "low": _whole}, "4kW:2"))
    if (text := said["sharing"]) is not None:
        found |= _words("--sharing", text, {"sharing": float}, "0.4")
    return found


def _words(option: str, text: str, known: Words, example: str) -> dict[str, Any]:
    """The values between the colons of ``text``, by name."""
    parts = text.split(":")
    try:
        if len(parts) > len(known):
            raise ValueError
        return {name: known[name](part) for name, part in zip(known, parts, strict=False)}
    except (ValueError, RidgepointError):
        names = ":".join(name.removesuffix("_s").upper() for name in known)
        raise RidgepointError("bad_option", f"{option} is '{text}'", f"write {names}, like {example}") from None


def _whole(text: str) -> int:
    return whole_number("a count", text, least=0)


def _time(text: str) -> float:
    return parse_quantity(text, "s")


def _watts(text: str) -> float:
    return parse_quantity(text, "W")
