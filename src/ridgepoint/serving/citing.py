"""What serving figures rely on: publications behind scheduler and cache, kernel models of a step, an engine's host times."""

from __future__ import annotations

from collections.abc import Callable

from ridgepoint.citations import Reliance, reliance
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.serving.deployment import Deployment
from ridgepoint.work import Seq

SCHEDULING = ("yu-2022", "kwon-2023", "agrawal-2024")
_PARTS: tuple[tuple[str, Callable[[Deployment], bool]], ...] = (
    ("patel-2024", lambda given: given.readers > 0),
    ("leviathan-2023", lambda given: given.speculation is not None),
    ("sheng-2024", lambda given: given.adapters is not None),
    ("shi-2025", lambda given: given.sharing is not None),
    ("patel-2024-polca", lambda given: given.budget is not None),
)
"""Publications behind parts that a deployment may have."""


def reliance_of(given: Deployment, *publications: str) -> Reliance:
    """What every figure of a deployment rests on, and ``publications`` of what was computed with it.

    >>> from ridgepoint.serving.deployment import deployment
    >>> found = reliance_of(deployment("llama-3.1-8b", "h100-sxm"))
    >>> "kwon-2023" in found.publications, sorted(found.tables)
    (True, ['h100-sxm'])
    """
    passes, tokens, context = given.passes, 8.0, 1024.0
    step = Seq(
        passes.shared(tokens),
        passes.decoding(tokens, context),
        passes.reading(tokens, context),
        passes.choosing(tokens),
    )
    keys = [*SCHEDULING, *publications]
    keys += [key for key, used in _PARTS if used(given)]
    engine = given.software
    line = f"engine {engine.title}: host times {engine.provenance.kind} ({engine.provenance.source})"
    return reliance(evaluate(step, given.machine)) | Reliance(tuple(keys), more=(line,))
