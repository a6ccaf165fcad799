"""Papers with their state: what can be run for each, and why nothing can where nothing can (design §7)."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

import msgspec

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.evidence.claim_files import claim_files
from ridgepoint.evidence.papers.rows import Row, rows
from ridgepoint.evidence.papers.terms import terms
from ridgepoint.evidence.papers.workloads import to_request
from ridgepoint.laws.registry import law_of
from ridgepoint.request import command_of

State = Literal["listed", "modelled", "reproduced"]
STATES: tuple[State, ...] = ("listed", "modelled", "reproduced")
_WAITING = {
    "now": "the effect that it reports is not modelled yet",
    "with_paper": "the effect that it reports is not modelled yet",
    "bound": "no calculator stands for its formula yet",
    "tool": "a tool itself: what it does is a matter of Ridgepoint's own commands",
}


class Paper(Row, frozen=True, kw_only=True):
    """A row of the catalogue and what is derived from it.

    ``state``: *reproduced* where a reported figure is compared with a prediction, *modelled* where a scenario stands for
    what the paper is about, else *listed*. ``run``: the command that runs it, if any. ``reason``: why there is no more.
    """

    state: State
    run: str | None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found


def list_papers(
    *,
    kind: str | None = None,
    mechanism: str | None = None,
    bottleneck: str | None = None,
    domain: str | None = None,
    state: str | None = None,
    priority: int | None = None,
) -> tuple[Paper, ...]:
    """The papers that meet all that is given, core ones first. A mechanism or bottleneck may be any of a row's.

    >>> [paper.slug for paper in list_papers(mechanism="checkpointing")]
    ['datastates-llm']

    Errors: ``unknown_kind``, ``unknown_mechanism`` … with the nearest known ones.
    """
    lists = terms()
    _check("kind", kind, sorted({row.kind for row in rows().values()}))
    _check("mechanism", mechanism, lists.mechanism)
    _check("bottleneck", bottleneck, lists.bottleneck)
    _check("domain", domain, lists.domain)
    _check("state", state, STATES)
    _check("priority", None if priority is None else str(priority), ("1", "2", "3"))
    wanted = {"kind": kind, "domain": domain, "state": state, "priority": priority}
    return tuple(
        paper
        for paper in papers().values()
        if all(value is None or getattr(paper, name) == value for name, value in wanted.items())
        and (mechanism is None or mechanism in paper.mechanism)
        and (bottleneck is None or bottleneck in paper.bottleneck)
    )


def find_paper(slug: str) -> Paper:
    """The paper of that slug or name; case does not matter.

    >>> find_paper("FlashAttention").slug
    'flashattention'

    Errors: ``unknown_paper`` with the nearest slugs.
    """
    folded = slug.strip().casefold()
    found = papers().get(folded) or next((p for p in papers().values() if p.name.casefold() == folded), None)
    if found is None:
        raise unknown_paper(slug)
    return found


def unknown_paper(slug: str) -> RidgepointError:
    """The error for a slug that is not in the catalogue: the nearest ones by slug and by name, or where to search."""
    slug_of = {**{paper.name: paper.slug for paper in papers().values()}, **{known: known for known in papers()}}
    close = list(dict.fromkeys(slug_of[name] for name in nearest(slug, slug_of)))
    hint = f"did you mean {' or '.join(close)}?" if close else "`ridgepoint papers search WORDS` finds by words"
    return RidgepointError("unknown_paper", f"unknown paper '{slug}'", hint)


@cache
def papers() -> dict[str, Paper]:
    """All papers by slug, core ones first."""
    claimed = _claimed()
    return {slug: _paper(row, claimed.get(slug)) for slug, row in rows().items()}


def _paper(row: Row, claimed: set[int] | None) -> Paper:
    state = _state(row, claimed)
    run = f"ridgepoint reproduce {row.slug}" if claimed is not None else _other_run(row)
    reason = row.reason or (_WAITING.get(row.expressible, "") if state == "listed" else "")
    given = {name: getattr(row, name) for name in row.__struct_fields__} | {"reason": reason}
    return Paper(**given, state=state, run=run)


def _other_run(row: Row) -> str | None:
    """The command of a row without claims: its law, the command that does the same, or its workload."""
    law = law_of(row.slug)
    if law is not None:
        return f"ridgepoint laws run {law.name}"
    workload = command_of(to_request(row.workload)) if row.workload is not None else None
    return row.command or workload


def _state(row: Row, claimed: set[int] | None) -> State:
    """A technique of which only the workload runs stays *listed*: its own effect is not there."""
    if claimed is not None:
        compared = any(i < len(row.claims) and row.claims[i].value is not None for i in claimed)
        return "reproduced" if compared else "modelled"
    if row.command or law_of(row.slug) is not None:
        return "modelled"
    return "modelled" if row.expressible == "profile" and row.workload is not None else "listed"


def _claimed() -> dict[str, set[int]]:
    """Slug → positions of the claims that a scenario pair of ``catalog/claims/*.toml`` stands for.

    Only these two keys are read here, so that a list of papers does not wait for models and machines.
    """
    found: dict[str, set[int]] = {}
    for entries in claim_files().values():
        for entry in entries:
            indices = found.setdefault(entry["slug"], set())
            if "index" in entry:
                indices.add(entry["index"])
    return found


def _check(what: str, value: str | None, known: Any) -> None:
    if value is not None and value not in known:
        close, shown = nearest(value, known), _nearest_of_many(value, known)
        hint = f"did you mean {' or '.join(close)}?" if close else shown
        raise RidgepointError(f"unknown_{what}", f"unknown {what} '{value}'", hint)


_MANY = 12
"""Names that a hint may list in full."""


def _nearest_of_many(value: str, known: Collection[str]) -> str:
    """All known names, or the few that are least unlike where there are many."""
    if len(known) <= _MANY:
        return "known: " + ", ".join(known)
    few = get_close_matches(value, known, n=5, cutoff=0.0)
    return (
        f"the least unlike of {len(known)}: {', '.join(few)}; `ridgepoint papers list --json` has those of every paper"
    )
