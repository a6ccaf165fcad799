"""``ridgepoint advise --task serve``: what would let a deployment serve more within its goals, or answer sooner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ridgepoint.cli.citing import print_answer
from ridgepoint.cli.numbers import per_second
from ridgepoint.cli.operating import deployed
from ridgepoint.cli.output import print_json
from ridgepoint.request import Request

if TYPE_CHECKING:
    from ridgepoint.advice.remedies import Limits


def serve(
    request: Request,
    asked: Mapping[str, bool],
    load: tuple[str | None, str | None],
    objective: str,
    limits: Limits,
    shown: tuple[int, bool, bool],
    citations: bool,
    as_json: bool,
) -> None:
    """Print advice on the deployment that ``request`` describes. ``asked``: options that this task does not take and whether
    they were given; ``load``: rate and engine; ``shown``: remedies to show, whether together, whether all.

    Errors: ``bad_option`` for what the task does not take; those of ``serving_advice``.
    """
    from ridgepoint.advice.serving import Goals, serving_advice
    from ridgepoint.report.serving_advice import document, page

    rate, engine = load
    goals = Goals(None if rate is None else per_second(rate), limits.ttft_s, limits.tpot_s)
    given, prompt, output = deployed(request, asked, engine or "vllm")
    found = serving_advice(given, prompt, output, goals, objective or "throughput", limits, request.apply)
    if as_json:
        print_json(document(found))
        return
    print_answer(lambda width: page(found, width, *shown), found.citations if citations else ())
