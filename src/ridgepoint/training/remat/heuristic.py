"""A good order without a solver: segments of the forward pass (the √n scheme), then the cheapest results by byte, then back.

Chen et al. 2016 keep the results at the borders of √n segments. Here every number of segments is tried, with borders where
least crosses; beside it results are dropped one by one, the one first that frees most bytes at the peak per second. What is
dropped but need not be is kept again at the end, dearest first.
"""

from __future__ import annotations

from collections.abc import Iterator

from ridgepoint.training.remat.flow import Flow, Run, order_without, run

MOST_STEPS = 400
"""Forward results up to which every one is tried by itself; of more, those in equal parts of the pass."""


def improved(flow: Flow, budget_bytes: float) -> Run | None:
    """The fastest order found in ``budget_bytes``; None where none was."""
    everything = run(flow, order_without(flow, frozenset()))
    if everything.peak_bytes <= budget_bytes:
        return everything
    found = [drop for drop in (*segmented(flow), _greedy(flow, budget_bytes)) if drop is not None]
    fitting = [(one.time_s, drop) for drop in found if (one := _run(flow, drop)).peak_bytes <= budget_bytes]
    if not fitting:
        return None
    best = sorted(fitting, key=lambda item: item[0])[:3]
    return min((_run(flow, _kept_again(flow, drop, budget_bytes)) for _, drop in best), key=lambda one: one.time_s)


def leanest(flow: Flow) -> Run:
    """The order that needs the least memory of those known here."""
    found = [frozenset[int](), *segmented(flow)]
    return min((_run(flow, drop) for drop in found), key=lambda one: (one.peak_bytes, one.time_s))


def segmented(flow: Flow) -> Iterator[frozenset[int]]:
    """What is dropped with 2, 3, 4, 6, 8, 12 … segments: all but what crosses the borders between them."""
    kept = flow.kept
    for count in _counts(len(kept)):
        yield _segments(flow, count)


def _counts(most: int) -> Iterator[int]:
    count = 2
    while count <= most:
        yield count
        yield from (count * 3 // 2,) if count * 3 // 2 <= most and count > 2 else ()
        count *= 2
    if most:
        yield most


def square_root(flow: Flow) -> frozenset[int]:
    """What is dropped with √n segments of n kept results (Chen et al. 2016)."""
    return _segments(flow, max(round(len(flow.kept) ** 0.5), 1))


def _segments(flow: Flow, count: int) -> frozenset[int]:
    """All that is kept is dropped but what crosses ``count`` − 1 borders, each moved to where least crosses nearby."""
    turn, kept = flow.turn, set(flow.kept)
    crossing = _crossing(flow)
    stay: set[int] = set()
    width = turn / count
    for number in range(1, count):
        middle = number * width
        low, high = max(1, round(middle - width / 2)), min(turn - 1, round(middle + width / 2))
        border = min(range(low, max(high, low + 1)), key=lambda at: (crossing[at], abs(at - middle)), default=0)
        stay |= {at for at in range(border) if any(border <= reader < turn for reader in flow.readers[at])}
    return frozenset(kept - stay)


def _crossing(flow: Flow) -> list[float]:
    """Bytes of forward results that forward steps from each position on still read."""
    change = [0.0] * (flow.turn + 1)
    for at in range(flow.turn):
        last = max((reader for reader in flow.readers[at] if reader < flow.turn), default=at)
        change[at + 1] += flow.steps[at].bytes
        change[last + 1] -= flow.steps[at].bytes
    found, live = [], 0.0
    for position in range(flow.turn + 1):
        live += change[position]
        found.append(live)
    return found


def _run(flow: Flow, dropped: frozenset[int]) -> Run:
    return run(flow, order_without(flow, dropped))


def _greedy(flow: Flow, budget_bytes: float) -> frozenset[int] | None:
    """Results dropped one after the other, most bytes of the peak per second first, until the rest fits."""
    dropped: frozenset[int] = frozenset()
    now = _run(flow, dropped)
    left = _tried(flow)
    while now.peak_bytes > budget_bytes and left:
        ranked = []
        for at in left:
            then = _run(flow, dropped | {at})
            saved = _excess(now, budget_bytes) - _excess(then, budget_bytes)
            if saved > 0.0:
                ranked.append((saved / max(then.time_s - now.time_s, 1e-12), at, then))
        if not ranked:
            return None
        _, chosen, now = max(ranked, key=lambda item: (item[0], -item[1]))
        dropped |= {chosen}
        left = [at for at in left if at != chosen]
    return dropped if now.peak_bytes <= budget_bytes else None


def _tried(flow: Flow) -> list[int]:
    """Kept results that dropping may help with; of long passes the largest."""
    found = [at for at in flow.kept if flow.steps[at].bytes > 0.0 and at not in flow.outputs]
    room = max(MOST_STEPS * MOST_STEPS // max(len(flow.steps), 1), 0)
    return sorted(sorted(found, key=lambda at: -flow.steps[at].bytes)[: min(room, MOST_STEPS)])


def _excess(one: Run, budget_bytes: float) -> float:
    """Bytes above the budget, over all moments: unlike the peak, it falls with every result that helps at one of them."""
    return sum(max(live - budget_bytes, 0.0) for live in one.bytes_at)


def _kept_again(flow: Flow, dropped: frozenset[int], budget_bytes: float) -> frozenset[int]:
    """``dropped`` without what need not be: the dearest by second first."""
    order = sorted(dropped, key=lambda at: -flow.steps[at].time_s)
    now = _run(flow, dropped)
    for at in order[:MOST_STEPS]:
        then = _run(flow, dropped - {at})
        if then.peak_bytes <= budget_bytes and then.time_s <= now.time_s:
            dropped, now = dropped - {at}, then
    return dropped
