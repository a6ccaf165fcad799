"""What Ridgepoint says when an input is wrong: one sentence, the nearest valid name, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RidgepointError(Exception):
    """An error that is the input's fault and is explained in one sentence (exit code 2).

    ``kind`` is a stable identifier (``unknown_model``, ``bad_config`` …), ``message`` says what is wrong and where,
    ``hint`` what to do.

    >>> RidgepointError("bad_plan", "tp = 3 does not divide 32 heads", "use 1, 2, 4, 8, 16 or 32").to_dict()
    {'kind': 'bad_plan', 'message': 'tp = 3 does not divide 32 heads', 'hint': 'use 1, 2, 4, 8, 16 or 32'}
    """

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type[RidgepointError], tuple[str, str, str]]:
        # Processes that work for others send their errors.
        return type(self), (self.kind, self.message, self.hint)

    def to_dict(self) -> dict[str, str]:
        """The body of design §10's error envelope."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The ``count`` known names most like ``name``, best first.

    >>> nearest("h100-smx", ["a100-sxm-80gb", "h100-sxm", "h100-pcie"], count=1)
    ['h100-sxm']
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    close = difflib.get_close_matches(folded, by_folded, n=count, cutoff=0.6)
    inside = sorted((c for c in by_folded if folded and folded in c), key=len)
    return [by_folded[c] for c in dict.fromkeys([*close, *inside])][:count]


def unknown_name(what: str, name: str, known: Iterable[str]) -> RidgepointError:
    """The error for a name that is in no catalogue: the nearest known ones and where to see all.

    >>> str(unknown_name("format", "bf61", ["bf16", "int8"]))
    "unknown format 'bf61' (did you mean bf16?)"
    """
    known = sorted(known)
    close = nearest(name, known)
    listing = {"model": "`ridgepoint models list` shows all", "machine": "`ridgepoint machines list` shows all"}
    fallback = listing.get(what, "known: " + ", ".join(known))
    hint = f"did you mean {' or '.join(close)}?" if close else fallback
    return RidgepointError(f"unknown_{what}", f"unknown {what} '{name}'", hint)
