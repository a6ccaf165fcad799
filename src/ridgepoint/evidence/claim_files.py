"""The files of claims as they are written: read once, for those who want a claim's scenarios and for those who count claims.

Nothing is imported here that a list of papers would have to wait for.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from ridgepoint.errors import RidgepointError


@cache
def claim_files() -> dict[str, list[dict[str, Any]]]:
    """File name → its entries, in the files' order.

    Errors: ``bad_claim`` with the file, where one is no TOML or holds anything but entries.

    >>> all(entry["slug"] for entries in claim_files().values() for entry in entries)
    True
    """
    folder = resources.files("ridgepoint.catalog") / "claims"
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.name) if folder.is_dir() else ():
        if not path.name.endswith(".toml"):
            continue
        try:
            whole = tomllib.loads(path.read_text("utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise RidgepointError("bad_claim", f"{path.name}: {error}", "mend the entry") from None
        if set(whole) - {"claim"}:
            raise RidgepointError(
                "bad_claim", f"{path.name}: {min(set(whole) - {'claim'})} is no claim", "use [[claim]]"
            )
        found[path.name] = whole.get("claim", [])
    return found
