"""Many devices asked whether they keep a goal, by processes beside each other where there are several cores."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from ridgepoint.serving.candidates import Asked, Candidate, Missed

Answer = Candidate | Missed | None
Ask = Callable[[Iterable[tuple[str, int]]], Iterator[Answer]]
"""Answers of devices, in order; each is a name and the degree that is ``timed`` (see ``Asked.on``)."""

CHUNK = 2
"""Devices that a process is given at a time: enough that the way there is nothing, few enough that all end together."""


@contextmanager
def asking(asked: Asked, workers: int) -> Iterator[Ask]:
    """Answers to ``asked`` by so many processes, or by this one."""
    if workers < 2:
        yield lambda devices: (asked.on(name, timed) for name, timed in devices)
        return
    # A forked process has all modules at once; elsewhere forking is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, context, _begin, (asked,)) as pool:
        try:
            yield lambda devices: pool.map(_answer, devices, chunksize=CHUNK)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_ASKED: list[Asked] = []


def _begin(asked: Asked) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is interrupted, and has this one end
    _ASKED[:] = [asked]


def _answer(device: tuple[str, int]) -> Answer:
    return _ASKED[0].on(*device)
