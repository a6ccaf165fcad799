"""Whose time it is: every instant belongs to the event that started last among those that run.

For nested events this is self time. For events that overlap otherwise it is still a partition: own times always sum to the
length of the union.

>>> import numpy as np
>>> own_times(np.array([0, 2, 3]), np.array([10, 6, 4]))  # 0–10 holds 2–6, which holds 3–4
array([6, 3, 1])
"""

from __future__ import annotations

import numpy as np

from ridgepoint.traces.intervals import Ints


def nesting_order(start: Ints, end: Ints, *ties: Ints) -> Ints:
    """The order in which events open: earlier first, of equal starts the longer first, then by ``ties``."""
    return np.lexsort((*reversed(ties), -end, start))


def own_times(start: Ints, end: Ints, order: Ints | None = None) -> Ints:
    """Own nanoseconds of every event of one lane. ``order`` is ``nesting_order``, where it is known."""
    order = nesting_order(start, end) if order is None else order
    starts, ends = start.tolist(), end.tolist()
    own = [0] * len(starts)
    stack: list[int] = []
    clock = 0
    for i in order.tolist():
        now = starts[i]
        while stack and ends[stack[-1]] <= now:
            clock = _close(stack, ends, own, clock)
        if stack:
            own[stack[-1]] += now - clock
        clock = now
        stack.append(i)
    while stack:
        clock = _close(stack, ends, own, clock)
    return np.array(own, dtype=np.int64)


def _close(stack: list[int], ends: list[int], own: list[int], clock: int) -> int:
    """The last event ends; what had ended under it gets nothing more."""
    top = stack.pop()
    if ends[top] <= clock:
        return clock
    own[top] += ends[top] - clock
    return ends[top]


def parents(start: Ints, end: Ints, order: Ints) -> Ints:
    """For every event of one lane the one that it opened in, or -1."""
    starts, ends = start.tolist(), end.tolist()
    found = [-1] * len(starts)
    stack: list[int] = []
    for i in order.tolist():
        while stack and ends[stack[-1]] <= starts[i]:
            stack.pop()
        if stack:
            found[i] = stack[-1]
        stack.append(i)
    return np.array(found, dtype=np.int64)
