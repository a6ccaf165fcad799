"""Values as TOML text: the standard library reads TOML and does not write it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_lines(values: Mapping[str, Any]) -> list[str]:
    """One line for each key, objects inside as inline tables; nulls are left out, as TOML has none.

    >>> print("\\n".join(toml_lines({"name": "x", "sizes": [1, 2.5, None], "inner": {"a key": True, "gone": None}})))
    name = "x"
    sizes = [1, 2.5]
    inner = { "a key" = true }
    """
    return [f"{_key(key)} = {_value(value)}" for key, value in values.items() if value is not None]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        inside = ", ".join(toml_lines(value))
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value if item is not None) + "]"
    return str(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's; TOML also wants DEL escaped and allows no lone surrogates.
    sound = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007f")
