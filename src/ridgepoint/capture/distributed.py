"""A process group that only pretends: one process is rank 0 of many, and collectives are recorded, not done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ridgepoint.capture.extra import needed
from ridgepoint.errors import RidgepointError


@contextmanager
def process_group(ranks: int) -> Iterator[None]:
    """``torch.distributed`` as rank 0 of ``ranks`` sees it; nothing happens for one rank.

    Errors: ``bad_capture`` where a real process group is there already.
    """
    if ranks <= 1:
        yield
        return
    distributed = needed("torch.distributed", "capturing a distributed model")
    fake = needed("torch.testing._internal.distributed.fake_pg", "capturing a distributed model")
    if distributed.is_initialized():
        raise RidgepointError("bad_capture", "a process group is there already", "capture in a process of its own")
    distributed.init_process_group("fake", rank=0, world_size=ranks, store=fake.FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def ranks_of(arguments: Any) -> float:
    """The number of ranks of the group that a collective's arguments name."""
    from torch.distributed.distributed_c10d import _resolve_process_group

    args, kwargs = arguments
    for value in (*args, *kwargs.values()):
        if isinstance(value, str):
            try:
                return float(_resolve_process_group(value).size())
            except (RuntimeError, ValueError, KeyError):
                continue
        size = getattr(value, "size", None)
        if type(value).__name__ in ("ProcessGroup", "ScriptObject") and callable(size):
            return float(value.size())
    raise RidgepointError("bad_capture", "a collective names no process group", "give --ranks N")


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is spread over ranks (a DTensor): what this rank holds is inside it."""
    return hasattr(tensor, "_local_tensor") and hasattr(tensor, "_spec")


def local(tensor: Any) -> Any:
    """What this rank holds of a tensor."""
    return tensor._local_tensor if is_distributed(tensor) else tensor
