"""How techniques change works, phases and ledgers: small functions that the mechanisms' modules share.

>>> from ridgepoint.ops import Delay
>>> from ridgepoint.work import Repeat, Seq, tree
>>> work = Seq(Delay(seconds=1.0, label="a"), Repeat(2.0, Delay(seconds=3.0, label="b")))
>>> print(tree(mapped(work, lambda op: replace(op, seconds=op.seconds / 2.0) if op.label == "b" else op)))
Seq
├─ a: Delay(seconds=1)
└─ Repeat(2)
   └─ b: Delay(seconds=1.5)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from ridgepoint.models.architecture import Layer, Model, Stack
from ridgepoint.numeric import Num
from ridgepoint.scenario import Edit, Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.work import Op, Work, mapped

Rule = Callable[[Any], Work]


def prefixed(work: Work, prefix: str) -> Work:
    """``work`` with ``prefix`` before every op's label, so that reports keep it apart (``draft.layers.feed.down``)."""
    return mapped(work, lambda op: replace(op, label=f"{prefix}{op.label}"))


def labelled(op: Op, *patterns: str) -> bool:
    """Whether the op's label fits one of the shell patterns (``*.attention.attention``).

    >>> from ridgepoint.ops import Delay
    >>> labelled(Delay(seconds=1.0, label="layers.feed.down"), "*.feed.*")
    True
    """
    return any(fnmatchcase(op.label, pattern) for pattern in patterns)


def only(kind: type[Op] | tuple[type[Op], ...], change: Rule, *patterns: str) -> Rule:
    """``change`` for ops of a kind (and of a label that fits, where patterns are given); other ops stay."""

    def rule(op: Op) -> Work:
        fits = isinstance(op, kind) and (not patterns or labelled(op, *patterns))
        return change(op) if fits else op

    return rule


def edited(given: Scenario, name: str, rework: Callable[[Built, Scenario, Values], Built], values: Values) -> Scenario:
    """``given`` with an edit of what it is built into."""
    return replace(given, edits=(*given.edits, Edit(name, rework, dict(values))))


def with_phases(built: Built, change: Callable[[Phase], Phase | tuple[Phase, ...]], *names: str) -> Built:
    """``built`` with ``change`` made to the phases of these names (all where none is given); one may become several."""
    phases: list[Phase] = []
    for phase in built.phases:
        found = change(phase) if not names or phase.name in names else phase
        phases += found if isinstance(found, tuple) else (found,)
    return replace(built, phases=tuple(phases))


def with_ops(built: Built, rule: Rule, *names: str) -> Built:
    """``built`` with ``rule`` made to every op of the phases of these names (all where none is given)."""
    return with_phases(built, lambda phase: replace(phase, work=mapped(phase.work, rule)), *names)


def with_entries(built: Built, **bytes_by_entry: Num) -> Built:
    """``built`` with entries of the ledger set; other entries stay."""
    ledger = built.ledger
    return replace(built, ledger=replace(ledger, entries={**ledger.entries, **bytes_by_entry}))


def scaled_entries(built: Built, factor: Num, *names: str) -> Built:
    """``built`` with these entries of the ledger multiplied; absent ones stay absent."""
    found = {name: size * factor for name, size in built.ledger.entries.items() if name in names}
    return with_entries(built, **found)


def assumed(built: Built, *sentences: str) -> Built:
    """``built`` with further assumptions."""
    return replace(built, assumptions=(*built.assumptions, *sentences))


def with_plan(given: Scenario, **changes: Any) -> Scenario:
    """``given`` with fields of its plan set."""
    return replace(given, plan=replace(given.plan, **changes))


def with_layers(model: Model, change: Callable[[Layer], Layer]) -> Model:
    """``model`` with every layer of its stacks changed."""

    def stack(old: Stack | None) -> Stack | None:
        return old and replace(old, layers=tuple((change(layer), count) for layer, count in old.layers))

    return replace(model, decoder=stack(model.decoder), encoder=stack(model.encoder))
