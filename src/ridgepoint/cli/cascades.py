"""``ridgepoint simulate --cascade`` and ``--route``: further models that answer what the first one does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from ridgepoint.cli.panels import valued
from ridgepoint.errors import RidgepointError

if TYPE_CHECKING:
    from ridgepoint.serving.deployment import Deployment

PANEL = "Several models"
_FORM = "PART:MODEL:MACHINE"
Cascades = Annotated[
    list[str] | None,
    valued(
        *("--cascade", _FORM),
        "PART of the answers is not good enough and MODEL on MACHINE is asked; again for a third model",
        PANEL,
    ),
]
Routes = Annotated[
    list[str] | None,
    valued("--route", _FORM, "PART of the requests goes to MODEL on MACHINE instead; again for a third model", PANEL),
]


def further(
    cascade: list[str] | None, route: list[str] | None, first: Deployment
) -> tuple[str, list[Any], list[float]]:
    """(kind, deployments from the first on, parts) of what was said; one deployment and no kind where nothing was.

    Errors: ``bad_usage``, ``bad_option``, and those of deployments.
    """
    from ridgepoint.serving.cascade import CASCADE, ROUTER
    from ridgepoint.serving.deployment import deployment

    if cascade and route:
        raise RidgepointError(
            "bad_usage", "requests are passed on or sent elsewhere", "give one of --cascade and --route"
        )
    kind, option, said = (CASCADE, "--cascade", cascade) if cascade else (ROUTER, "--route", route or [])
    found, parts = [first], []
    for text in said or []:
        words = text.split(":")
        try:
            part, model, machine = float(words[0]), words[1], words[2]
            if len(words) > 3:
                raise ValueError
        except (ValueError, IndexError):
            raise RidgepointError(
                "bad_option",
                f"{option} is '{text}'",
                f"write {_FORM}, like 0.2:llama-3.1-70b:4xh100-sxm",
            ) from None
        parts.append(part)
        found.append(deployment(model, machine, engine=first.engine, routing=first.routing))
    return (kind if parts else ""), found, parts
