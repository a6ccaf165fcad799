"""The oracle of the rematerialisation planners: every order of a small flow, by Dijkstra's search over what is kept."""

import heapq
from itertools import count

from ridgepoint.training.remat.flow import Flow


def least_time(flow: Flow, budget: float, times: int) -> float | None:
    """Seconds of the fastest order in ``budget``; None where none fits.

    A state is what is kept, how far the program has come, and how often each step ran. A move runs the next step for the first
    time, or repeats an earlier one (once between two first times, in the program's order), after any results were dropped.
    """
    steps, tie = flow.steps, count()
    start = (0, -1, 0, (0,) * len(steps))
    queue = [(0.0, next(tie), start)]
    best = {start: 0.0}
    while queue:
        time, _, state = heapq.heappop(queue)
        if time > best[state]:
            continue
        stage, last, kept, ran = state
        if stage == len(steps):
            if all(kept >> at & 1 for at in flow.outputs):
                return time
            continue
        for at in range(last + 1, stage + 1):
            if at < stage and (at >= flow.turn or ran[at] >= times):
                continue
            if any(not kept >> read & 1 for read in steps[at].reads) or (at < stage and kept >> at & 1):
                continue
            reads = 0
            for read in steps[at].reads:
                reads |= 1 << read
            free = kept & ~reads & ~(1 << at)
            drop = free
            while True:  # every subset of what is not read here may be dropped before
                held = (kept & ~drop) | 1 << at
                size = flow.held_bytes + sum(s.bytes for i, s in enumerate(steps) if held >> i & 1)
                if size <= budget:
                    counts = tuple(n + (i == at) for i, n in enumerate(ran))
                    then = (stage + 1, -1, held, counts) if at == stage else (stage, at, held, counts)
                    found = time + steps[at].time_s
                    if found < best.get(then, float("inf")):
                        best[then] = found
                        heapq.heappush(queue, (found, next(tie), then))
                if not drop:
                    break
                drop = (drop - 1) & free
    return None
