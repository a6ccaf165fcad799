"""Pipeline stages one by one: how many layers each has, what it holds, and how many micro-batches at once (design §2, §3).

By default all stages have ⌈layers/pp⌉ layers (the last what is left). A plan may give the layers of each stage, or have them
balanced: embedding and head take the time of some layers, so that the stages that do them get fewer.

Sources: Narayanan et al. 2021 (in flight), Qi et al. 2023 (zero bubble), Yeung et al. 2024 (imbalance of the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num, plain
from ridgepoint.plan import Plan


def sizes(model: Model, plan: Plan, pp: Num) -> tuple[float, ...]:
    """Layers of each stage.

    Errors: ``bad_plan`` where given ones are not one per stage, or do not make up the model.
    """
    count, depth = round(float(np.max(pp))), model.main.depth
    if isinstance(plan.stages, tuple) and plan.stages:
        if len(plan.stages) != count or sum(plan.stages) != depth:
            even = tuple(depth // count + (i < depth % count) for i in range(count))
            raise RidgepointError(
                "bad_plan",
                f"{len(plan.stages)} stages with {sum(plan.stages):g} layers do not make up the {depth} layers of "
                f"{model.name} in pp = {count}",
                "give one number per stage, such as " + ",".join(map(str, even[:16])) + ("…" if count > 16 else ""),
            )
        return plan.stages
    most = ceil(depth / count)
    return tuple(float(max(min(most, depth - most * stage), 0)) for stage in range(count))


def balanced(depth: int, pp: int, layer_s: float, first_s: float, last_s: float) -> tuple[float, ...]:
    """Layers of each stage such that the slowest takes least: ``first_s`` is the embedding, ``last_s`` the head and the loss.

    Exact: the least of all times at which whole layers, at least one per stage, fit. Where stages are equal the first,
    which holds most micro-batches, has fewer.

    >>> balanced(32, 4, 1.0, 0.0, 3.0)
    (8.0, 9.0, 9.0, 6.0)
    """
    extras = [0.0] * pp
    extras[0] += first_s
    extras[-1] += last_s

    def room(limit: float) -> list[int]:
        return [max(floor((limit - extra) / layer_s * (1.0 + 1e-12)), 1) for extra in extras]

    limits = sorted({extra + n * layer_s for extra in extras for n in range(1, depth + 1)})
    limit = next(limit for limit in limits if sum(room(limit)) >= depth)
    found = room(limit)
    while sum(found) > depth:
        slowest = max((s for s in range(pp) if found[s] > 1), key=lambda s: (extras[s] + found[s] * layer_s, -s))
        found[slowest] -= 1
    return tuple(map(float, found))


def in_flight_at(plan: Plan, stages: int, count: Num, stage: int) -> Num:
    """Micro-batches whose activations a stage holds at once: all for GPipe; for 1F1B one for itself and each stage behind it;
    with v chunks 2·(p − s − 1) + (v − 1)·p + 1 chunks; pp for ZB-H1 and 2·pp − 1 for ZB-H2, which put off gradients of weights.
    """
    schedule, chunks = plan.schedule, plan.chunks
    if stages == 1:
        return 1.0
    if schedule == "gpipe":
        return count
    most = {"zero_bubble": stages, "zero_bubble_2": 2 * stages - 1}.get(schedule, stages - stage)
    one_chunk = np.minimum(float(most), count)
    if schedule != "interleaved":
        return plain(one_chunk)
    held = np.minimum(2.0 * (stages - stage - 1) + (chunks - 1.0) * stages + 1.0, count * chunks) / chunks
    return plain(np.where(np.asarray(chunks) > 1.0, held, one_chunk))


def fullest(plan: Plan, layers: Sequence[float], count: float) -> int:
    """The stage that holds the most activations: the most layers times micro-batches."""
    held = [n * float(in_flight_at(plan, len(layers), count, stage)) for stage, n in enumerate(layers)]
    return int(np.argmax(held))
