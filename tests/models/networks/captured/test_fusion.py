"""The fusion pass (design §5): what merges, what must not, and what is then read and written."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.models.networks.captured.fusion import groups
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.work import Repeat
from tests.models.networks.captured.graphs import gemm, graph, ops_of, stream

FP16 = Formats("fp16", "fp16", "fp16")


def played(found, fused=True, **sizes):
    return Evaluation(found, sizes, FP16, fused)


def test_a_chain_is_one_kernel_that_never_writes_what_stays_inside():
    found = graph([100.0] * 4, [stream([0], [1], 100.0), stream([1], [2], 100.0), stream([2], [3], 100.0)])
    (op,) = ops_of(played(found).passes()[0])
    assert (op.read_bytes, op.write_bytes, op.flop) == (200.0, 200.0, 300.0)
    apart = list(ops_of(played(found, fused=False).passes()[0]))
    assert [(o.read_bytes, o.write_bytes) for o in apart] == [(200.0, 200.0)] * 3


def test_a_norm_takes_in_the_addition_before_and_the_scaling_after():
    # add → mean over rows → per-row step → back over all points: one kernel that writes the sum, too, for it is used later.
    kernels = [
        stream([0, 1], [2], 1000.0),
        stream([2], [3], 1000.0, rows=10.0),
        stream([3], [4], 10.0),
        stream([2, 4], [5], 1000.0),
        gemm(5, 6, 7, 10.0, 10.0, 100.0),
        stream([2, 7], [8], 1000.0),
    ]
    found = graph([1000.0, 1000.0, 1000.0, 10.0, 10.0, 1000.0, 1000.0, 100.0, 1000.0], kernels, roles={6: "parameter"})
    assert groups(found, True)[0] == [0, 1, 2, 3]
    first = ops_of(played(found).passes()[0])[0]
    assert (first.pattern, first.rows, first.read_bytes, first.write_bytes) == ("norm", 10.0, 4000.0, 4000.0)


def test_different_shapes_stay_apart():
    found = graph([100.0, 100.0, 50.0], [stream([0], [1], 100.0), stream([1], [2], 50.0)])
    assert groups(found, True) == [[0], [1]]


def test_nothing_merges_around_a_product_in_between():
    # The last step needs both the first step and a product of it: merging first and last would be a circle.
    kernels = [stream([0], [1], 100.0), gemm(1, 2, 3, 10.0, 10.0, 10.0), stream([1, 3], [4], 100.0)]
    found = graph([100.0, 100.0, 100.0, 100.0, 100.0], kernels, roles={2: "parameter"})
    assert groups(found, True) == [[0], [1], [2]]


def test_two_parts_of_one_tensor_are_read_in_full():
    # silu(gate) · up, both halves of one product's result.
    halves = [stream([0], [1], 50.0), stream([0, 1], [2], 50.0)]
    found = graph([100.0, 50.0, 50.0], halves)
    half = found.kernels[1].reads
    other = (half[0][0], 50.0, 1)
    kernels = (found.kernels[0], msgspec.structs.replace(found.kernels[1], reads=(other, half[1])))
    (op,) = ops_of(played(msgspec.structs.replace(found, kernels=kernels)).passes()[0])
    assert op.read_bytes == 200.0


def test_the_end_of_a_layer_merges_with_the_beginning_of_the_next():
    # Each layer: norm-like step, product, addition. Of five layers three are recorded; the second stands for three.
    kernels, elements = [], [100.0]
    for layer in range(3):
        x, a, w, p, y = (0 if layer == 0 else 4 * layer), *(4 * layer + i for i in (1, 2, 3, 4))
        elements += [100.0] * 4
        kernels += [
            stream([x], [a], 100.0, label="l.norm"),
            gemm(a, w, p, 10.0, 10.0, 10.0, "l.up"),
            stream([x, p], [y], 100.0, label="l.add"),
        ]
    found = graph(elements, kernels, [(3, 6, 3.0)], roles={2: "parameter", 6: "parameter", 10: "parameter"})
    work = played(found).passes()[0]
    counts: dict[tuple[str, float], float] = {}
    parts: Any = work.children()
    for part in parts:
        op: Any = part.body if isinstance(part, Repeat) else part
        times = float(part.count) if isinstance(part, Repeat) else 1.0
        key = (op.kind, op.flop if op.kind == "stream" else 0.0)
        counts[key] = counts.get(key, 0.0) + times
    # five products; four borders where an addition and a norm are one kernel; the first norm and the last addition alone
    assert counts == {("gemm", 0): 5.0, ("stream", 200.0): 4.0, ("stream", 100.0): 2.0}


@st.composite
def programs(draw):
    count = draw(st.integers(2, 14))
    kernels, elements = [], [64.0, 64.0]
    for i in range(count):
        available = len(elements)
        reads = draw(st.lists(st.integers(0, available - 1), min_size=1, max_size=3, unique=True))
        space = draw(st.sampled_from([64.0, 8.0]))
        rows = draw(st.sampled_from([0.0, 8.0])) if space == 64.0 else 0.0
        product = draw(st.booleans()) and len(reads) > 1
        elements.append(rows or space)
        kernels.append(
            gemm(reads[0], reads[1], available, 8.0, 8.0, 8.0)
            if product
            else stream(reads, [available], space, rows, f"k{i}")
        )
    return graph(elements, kernels)


@given(programs())
def test_any_program_can_be_run_in_the_merged_order_and_moves_no_more(found):
    order = groups(found, True)
    assert sorted(at for members in order for at in members) == list(range(len(found.kernels)))
    made_by = {t: at for at, kernel in enumerate(found.kernels) for t in kernel.writes}
    done: set[int] = set()
    for members in order:
        done |= set(members)
        needs = {made_by[t] for at in members for t, *_ in found.kernels[at].reads if t in made_by}
        assert needs <= done
    moved = [sum(o.read_bytes + o.write_bytes for o in ops_of(played(found, fused).passes()[0]) if o.kind == "stream")
             for fused in (True, False)]  # fmt: skip
    assert moved[0] <= moved[1]
