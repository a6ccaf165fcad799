"""The table of meaning of framework calls, by name; what is not in it is unknown, and stays visible as such."""

from __future__ import annotations

from ridgepoint.capture import collectives, passes, products
from ridgepoint.capture.calls import Call
from ridgepoint.capture.draft import Draft
from ridgepoint.capture.products import Rule

RULES: dict[str, Rule] = {**passes.RULES, **products.RULES, **collectives.RULES}


def drafts(call: Call) -> list[Draft]:
    """The kernels of a call. A call without a rule becomes one of kind ``unknown``, with what it reads and writes."""
    rule = RULES.get(call.name)
    if rule is not None:
        return rule(call)
    if call.name.startswith("_foreach_"):
        return passes.of_each(call)
    if call.pointwise:
        return passes.pointwise(call)
    return [Draft("unknown", call.inputs, call.results)]
