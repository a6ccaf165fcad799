"""What a technique is: a named change of a scenario, with parameters, a range where it applies, papers and quality (design §6).

A technique changes what its paper changes — bytes kept, tokens processed, acceptance, steps, layout — never the resulting
time: no parameter is a speed-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.numeric import as_num
from ridgepoint.scenario import Scenario, Values

GRADES = ("exact", "near", "changed")
"""``exact``: the same results up to rounding; ``near``: reported as close to the original; ``changed``: another model or
another answer, whose quality must be measured.
"""


@dataclass(frozen=True)
class Parameter:
    """One number, name or flag that a technique takes.

    A number lies between ``low`` and ``high``; ``whole`` ones are counts. ``one_value``: it cannot sweep, for it shapes the
    model. Names come from ``choices`` where any are listed.
    """

    name: str
    default: float | str | bool
    meaning: str
    low: float = 0.0
    high: float = np.inf
    unit: str = ""
    whole: bool = False
    one_value: bool = False
    choices: tuple[str, ...] = ()

    def read(self, technique: str, value: Any) -> Any:
        """``value`` checked, as the technique's functions take it.

        Errors: ``bad_technique`` naming the technique, the parameter and its range.
        """
        where = f"{technique}: {self.name}"
        if isinstance(self.default, bool):
            return _flag(where, value)
        if isinstance(self.default, str):
            return _name(where, value, self.choices)
        return self._number(where, value)

    def _number(self, where: str, value: Any) -> Any:
        try:
            number = as_num(value)
        except (TypeError, ValueError):
            raise RidgepointError("bad_technique", f"{where} is {value!r}", f"give {self.range}") from None
        array = np.asarray(number)
        good = np.isfinite(array) & (array >= self.low) & (array <= self.high)
        if self.whole:
            good &= array == np.floor(array)
        if array.size == 0 or not np.all(good):
            raise RidgepointError("bad_technique", f"{where} is {value}", f"give {self.range}")
        if self.one_value and array.ndim:
            raise RidgepointError("bad_technique", f"{where} cannot be swept", "give one value; it shapes the model")
        return number

    @property
    def range(self) -> str:
        """What may be given, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "one of " + ", ".join(self.choices) if self.choices else "a name"
        kind = "a whole number" if self.whole else "a number"
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{kind} of at least {self.low:g}{unit}"
            if self.high == np.inf
            else (f"{kind} from {self.low:g} to {self.high:g}{unit}")
        )


def _flag(where: str, value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise RidgepointError("bad_technique", f"{where} is {value!r}", "give true or false")
    return words[str(value).lower()]


def _name(where: str, value: Any, choices: tuple[str, ...]) -> str:
    text = str(value)
    if choices and text not in choices:
        close = nearest(text, choices, count=1)
        hint = f"did you mean {close[0]}?" if close else "use one of " + ", ".join(choices)
        raise RidgepointError("bad_technique", f"{where} is '{text}'", hint)
    return text


Change = Callable[[Scenario, Values], Scenario]
Condition = Callable[[Scenario, Values], str]
"""The reason why a technique does not apply; an empty text where it does."""


def always(given: Scenario, values: Values) -> str:
    """Applies to everything."""
    return ""


@dataclass(frozen=True)
class Technique:
    """One published way to lower a cost.

    ``mechanism`` holds tags of the papers' catalogue and ``papers`` its slugs; ``quality`` says what is reported about
    answers, ``grade`` how far they may change. Techniques that ``occupy`` the same thing (the weights' format, the decode
    step) exclude each other. ``cannot`` says why it does not apply. ``neutral`` are values at which it changes nothing.
    """

    name: str
    title: str
    mechanism: tuple[str, ...]
    papers: tuple[str, ...]
    quality: str
    grade: str
    change: Change
    cannot: Condition = always
    parameters: tuple[Parameter, ...] = ()
    occupies: frozenset[str] = frozenset()
    training_free: bool = True
    neutral: Mapping[str, Any] | None = None
    presumes: str = ""
    """What must be so about the workload that no scenario says (prompts share a prefix); advice keeps such apart."""
    doc: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise RidgepointError("bad_technique", f"{self.name}: grade is '{self.grade}'", "use " + ", ".join(GRADES))

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: those given, checked, and defaults for the rest.

        Errors: ``bad_technique`` for an unknown parameter, with the nearest one.
        """
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                close = nearest(name, known, count=1)
                listed = f"it takes {', '.join(known)}" if known else "it takes none"
                hint = f"did you mean {close[0]}?" if close else listed
                raise RidgepointError("bad_technique", f"{self.name} has no parameter '{name}'", hint)
        return {name: p.read(self.name, given.get(name, p.default)) for name, p in known.items()}

    def apply(self, scenario: Scenario, given: Mapping[str, Any]) -> Scenario:
        """The changed scenario, with this technique in its list.

        Errors: ``not_applicable`` with the reason; ``bad_technique`` for parameters.
        """
        values = self.values(given)
        reason = self.cannot(scenario, values)
        if reason:
            raise RidgepointError("not_applicable", f"{self.name} does not apply: {reason}", "leave it out")
        changed = self.change(scenario, values)
        return _noted(changed, self.written(given))

    def written(self, given: Mapping[str, Any]) -> str:
        """The technique as a user writes it: ``name:key=value,key=value``."""
        said = ",".join(f"{name}={_text(value)}" for name, value in given.items())
        return f"{self.name}:{said}" if said else self.name

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return " ".join(self.doc.strip().split("\n\n")[0].split())


def _noted(scenario: Scenario, text: str) -> Scenario:
    return replace(scenario, techniques=(*scenario.techniques, text))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def conflict(a: Technique, b: Technique) -> str:
    """What two techniques both change, so that they cannot be combined; empty where they can."""
    if a.name == b.name:
        return a.name
    return ", ".join(sorted(a.occupies & b.occupies))
