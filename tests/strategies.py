"""Random works over random ops, scalar or with arrays, and random machines: what the properties of design §3 are tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import msgspec
import numpy as np
from hypothesis import strategies as st

from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import (
    Attention,
    Collective,
    Conv,
    Delay,
    Gemm,
    Host,
    Scan,
    Storage,
    Stream,
    Transfer,
)
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Slowest, Stage, Work

POINTS = 3
"""Length of the arrays in works of sweeps."""
MACHINES = ("h100-sxm", "l4", "mi300x", "tpu-v5e", "xeon-8480plus", "m2-ultra", "8xa100-sxm-80gb", "2x8xh100-sxm")
FORMATS = ("bf16", "fp8", "int4", "fp32")

Number = st.SearchStrategy[Any]


@st.composite
def machines(draw: st.DrawFn, names: tuple[str, ...] = MACHINES) -> Machine:
    """A catalogue machine whose engines, memories and links are a quarter to four times as fast."""
    machine = find_machine(draw(st.sampled_from(names)))
    factor = st.floats(0.25, 4.0)
    device = machine.device
    engines = {
        name: msgspec.structs.replace(e, rates={f: type(r)(r * scale) for f, r in e.rates.items()})
        for name, e in device.engines.items()
        for scale in [draw(factor)]
    }
    memory = {
        name: msgspec.structs.replace(m, bandwidth=type(m.bandwidth)(m.bandwidth * draw(factor))) if m.bandwidth else m
        for name, m in device.memory.items()
    }
    links = {
        name: msgspec.structs.replace(link, bandwidth=type(link.bandwidth)(link.bandwidth * draw(factor)))
        for name, link in device.links.items()
    }
    return replace(machine, device=msgspec.structs.replace(device, engines=engines, memory=memory, links=links))


def whole(largest: int, sweep: bool) -> Number:
    """Whole numbers from 1, small ones more often; sometimes an array of them in a sweep."""
    one = st.integers(0, int(np.log2(largest)) * 4).map(lambda e: float(min(round(2.0 ** (e / 4)), largest)))
    return _maybe_array(one, sweep)


def amounts(largest: float, sweep: bool) -> Number:
    """Positive amounts of bytes or seconds; sometimes an array of them in a sweep."""
    return _maybe_array(st.floats(-6.0, 0.0).map(lambda e: largest * 10.0**e), sweep)


def _maybe_array(one: Number, sweep: bool) -> Number:
    if not sweep:
        return one
    return st.one_of(one, st.lists(one, min_size=POINTS, max_size=POINTS).map(np.array))


def gemms(sweep: bool = False) -> st.SearchStrategy[Op]:
    return st.builds(
        Gemm,
        m=whole(8192, sweep),
        n=whole(8192, sweep),
        k=whole(8192, sweep),
        batch=whole(64, sweep),
        acts=st.sampled_from(("bf16", "fp8")),
        weights=st.sampled_from(FORMATS),
        grouped=st.booleans(),
        imbalance=_maybe_array(st.floats(1.0, 3.0), sweep),
    )


@st.composite
def attentions(draw: st.DrawFn, sweep: bool = False) -> Op:
    queries, history = draw(whole(4096, sweep)), draw(whole(8192, sweep))
    kv_heads = draw(whole(16, sweep))
    limit = draw(st.sampled_from(("none", "window", "chunk")))
    return Attention(
        batch=draw(whole(64, sweep)),
        heads=kv_heads * draw(whole(16, sweep)),
        kv_heads=kv_heads,
        q_len=queries,
        kv_len=queries + history - 1.0,
        head_dim=draw(st.sampled_from((64.0, 128.0, 256.0))),
        causal=draw(st.booleans()),
        window=1024.0 if limit == "window" else 0.0,
        chunk=2048.0 if limit == "chunk" else 0.0,
        backward=draw(st.booleans()),
        kv=draw(st.sampled_from(("bf16", "fp8"))),
    )


def scans(sweep: bool = False) -> st.SearchStrategy[Op]:
    return st.builds(
        Scan,
        batch=whole(64, sweep),
        seq=whole(4096, sweep),
        heads=whole(128, sweep),
        head_dim=st.just(64.0),
        state_dim=st.sampled_from((16.0, 128.0)),
        variant=st.sampled_from(("mamba1", "mamba2", "linear", "gated_delta")),
    )


def convolutions(sweep: bool = False) -> st.SearchStrategy[Op]:
    return st.builds(
        Conv,
        batch=whole(64, sweep),
        c_in=st.sampled_from((3.0, 64.0, 256.0)),
        c_out=whole(512, sweep),
        h=whole(224, False).map(lambda x: x + 3.0),
        w=whole(224, False).map(lambda x: x + 3.0),
        kh=st.sampled_from((1.0, 3.0)),
        kw=st.sampled_from((1.0, 3.0)),
        direction=st.sampled_from(("fwd", "bwd_data", "bwd_weight")),
    )


def streams(sweep: bool = False) -> st.SearchStrategy[Op]:
    return st.builds(
        Stream,
        read_bytes=amounts(1e9, sweep),
        write_bytes=amounts(1e9, sweep),
        flop=amounts(1e9, sweep),
        special=amounts(1e8, sweep),
        rows=whole(4096, sweep),
        pattern=st.sampled_from(("elementwise", "norm", "softmax", "gather")),
    )


def collectives(devices: int, sweep: bool = False) -> st.SearchStrategy[Op]:
    return st.builds(
        Collective,
        operation=st.sampled_from(("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")),
        bytes=amounts(1e9, sweep),
        ranks=_maybe_array(st.sampled_from([float(2**i) for i in range(int(np.log2(devices)) + 1)]), sweep),
    )


def ops(devices: int = 1, sweep: bool = False) -> st.SearchStrategy[Op]:
    """Every kind of op; labels tell them apart."""
    kinds: list[st.SearchStrategy[Op]] = [
        gemms(sweep),
        attentions(sweep),
        scans(sweep),
        convolutions(sweep),
        streams(sweep),
        collectives(devices, sweep),
        st.builds(
            Transfer, bytes=amounts(1e9, sweep), pieces=whole(64, sweep), direction=st.sampled_from(("read", "write"))
        ),
        st.builds(Host, launches=whole(1000, sweep), seconds=amounts(1e-2, sweep)),
        st.builds(Storage, bytes=amounts(1e9, sweep), accesses=whole(1000, sweep)),
        st.builds(Delay, seconds=amounts(1e-2, sweep)),
    ]
    return st.one_of(kinds).flatmap(
        lambda op: st.sampled_from("abcdefgh").map(lambda letter: replace(op, label=f"{op.kind}.{letter}"))
    )


def works(devices: int = 1, sweep: bool = False, leaves: int = 6) -> st.SearchStrategy[Work]:
    """Trees of every constructor of the algebra."""

    def extend(children: st.SearchStrategy[Work]) -> st.SearchStrategy[Work]:
        several = st.lists(children, min_size=1, max_size=3)
        return st.one_of(
            several.map(lambda parts: Seq(*parts)),
            several.map(lambda parts: Overlap(*parts)),
            st.builds(
                Repeat, _maybe_array(st.sampled_from((0.0, 0.5, 1.0, 3.0)) | st.floats(1e-3, 50.0), sweep), children
            ),
            st.tuples(st.floats(0.0, 1.0), children, children).map(lambda x: Mix((x[0], x[1]), (1.0 - x[0], x[2]))),
            st.builds(Slowest, whole(64, sweep), children, st.floats(0.0, 0.5)),
            _pipelines(children, sweep),
        )

    return st.recursive(ops(devices, sweep), extend, max_leaves=leaves)


@st.composite
def _pipelines(draw: st.DrawFn, children: st.SearchStrategy[Work], sweep: bool) -> Work:
    schedule = draw(st.sampled_from(Pipeline.SCHEDULES))
    trains = schedule != "forward"
    count = draw(_maybe_array(st.sampled_from((0.0, 1.0, 6.0)), sweep))
    middle = Stage(count, draw(children), draw(children) if trains else None, draw(children))
    last = Stage(1.0, draw(children), draw(children) if trains else None)
    return Pipeline((middle, last), draw(whole(32, sweep)), schedule, draw(st.sampled_from((1.0, 2.0, 4.0))))


@dataclass(frozen=True, kw_only=True)
class Mystery(Op):
    """An op that no table has rules for."""

    kind: ClassVar[str] = "mystery"
    read_bytes: float = 0.0
    write_bytes: float = 0.0


def mapped(work: Work, change: Callable[[Any], Any]) -> Work:
    """The same tree with every number changed."""
    if isinstance(work, Seq | Overlap):
        return type(work)(*(mapped(part, change) for part in work.parts), label=work.label)
    if isinstance(work, Mix):
        return Mix(*((change(p), mapped(case, change)) for p, case in work.cases), label=work.label)
    if isinstance(work, Pipeline):
        return replace(
            work,
            stages=tuple(_mapped_stage(stage, change) for stage in work.stages),
            microbatches=change(work.microbatches),
            chunks=change(work.chunks),
        )
    values = {f.name: getattr(work, f.name) for f in fields(work)}
    changed: dict[str, Any] = {n: mapped(v, change) if isinstance(v, Work) else change(v) for n, v in values.items()}
    return replace(work, **changed)


def _mapped_stage(stage: Stage, change: Callable[[Any], Any]) -> Stage:
    backward = None if stage.backward is None else mapped(stage.backward, change)
    send = None if stage.send is None else mapped(stage.send, change)
    return Stage(change(stage.count), mapped(stage.forward, change), backward, send)


def at_point(work: Work, index: int) -> Work:
    """One scalar work of a sweep."""
    return mapped(work, lambda v: float(v[index]) if isinstance(v, np.ndarray) else v)
