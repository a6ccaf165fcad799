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


def group_of(arguments: Any) -> tuple[float, float]:
    """The process group that a collective's arguments name: ranks in it, and how far apart neighbours are."""
    from torch.distributed import get_process_group_ranks
    from torch.distributed.distributed_c10d import _resolve_process_group

    args, kwargs = arguments
    for value in (*args, *kwargs.values()):
        group = value
        if isinstance(value, str):
            try:
                group = _resolve_process_group(value)
            except (RuntimeError, ValueError, KeyError):
                continue
        elif type(value).__name__ == "ScriptObject":
            group = _unboxed(value)
        if group is not None and type(group).__name__ == "ProcessGroup":
            ranks = get_process_group_ranks(group)
            return float(len(ranks)), float(ranks[1] - ranks[0]) if len(ranks) > 1 else 1.0
    raise RidgepointError("bad_capture", "a collective names no process group", "give --ranks N")


def _unboxed(value: Any) -> Any:
    """The process group in an argument of a call, or None where it is something else (an operator, say)."""
    from torch.distributed import ProcessGroup

    try:
        return ProcessGroup.unbox(value)
    except RuntimeError:
        return None


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is spread over ranks (a DTensor): what this rank holds is inside it."""
    return hasattr(tensor, "_local_tensor") and hasattr(tensor, "_spec")


def local(tensor: Any) -> Any:
    """What this rank holds of a tensor."""
    return tensor._local_tensor if is_distributed(tensor) else tensor


# --- fully sharded parameters (FSDP2) ----------------------------------------------------------------------------------


def sharded(module: Any) -> list[Any]:
    """The modules in it, itself included, whose parameters ``fully_shard`` spreads over ranks."""
    return [m for m in module.modules() if callable(getattr(m, "_get_fsdp_state", None))]


def replicas(module: Any) -> float:
    """Ranks with samples of their own: those that ``fully_shard`` spreads parameters over; 1 without it.

    Errors: ``bad_capture`` where parts of the module are sharded over different numbers of ranks.
    """
    counts = {
        float(group.mesh_info.mesh.size())
        for part in sharded(module)
        for group in part._get_fsdp_state()._fsdp_param_groups
    }
    if len(counts) > 1:
        said = " and ".join(f"{count:g}" for count in sorted(counts))
        raise RidgepointError(
            "bad_capture", f"parts of the model are sharded over {said} ranks", "shard all of them over one mesh"
        )
    return counts.pop() if counts else 1.0


def materialized(module: Any) -> Any:
    """Where parameters are sharded, tensors that only pretend to be real take the place of meta tensors, on which such
    modules refuse to run: the mode of PyTorch that makes them, else None.
    """
    if not sharded(module):
        return None
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        module.to_empty(device="cpu")
    return mode


@contextmanager
def one_step(module: Any) -> Iterator[None]:
    """Around one recording. Afterwards every rank holds its shards only, as before a step, and the order of the layers is
    forgotten: what stayed gathered would not be gathered again, nor ahead in the same order. Inside, PyTorch asks itself
    about the shapes of distributed tensors in a mode of its own, so that its questions are not taken for the model's calls.
    """
    parts = sharded(module)
    if not parts:
        yield
        return
    from torch.distributed.tensor import _sharding_prop

    asked = _sharding_prop.detect_fake_mode
    _sharding_prop.detect_fake_mode = lambda *_: None
    try:
        yield
    finally:
        _sharding_prop.detect_fake_mode = asked
        for part in parts:
            part.reshard()
            if part._get_fsdp_state()._is_root:
                part.reset_iter_state()
