"""Layers with a recurrent state: projections by hand, a constant cost per token, ranks (design §5)."""

from typing import Any

import pytest

from ridgepoint.models.architecture import DeltaAttention, Mamba1, Mamba2
from ridgepoint.models.execution import Execution, Formats, Tokens
from ridgepoint.models.recurrent import delta_attention, groups_per_rank, mamba1, mamba2
from ridgepoint.models.state import saved_bytes
from tests.models.parts import components, execution, flop

TWO = Mamba2(heads=64, head_dim=64, state_dim=128, groups=8, chunk=128)
ONE = Mamba1(inner=1024, state_dim=16, dt_rank=32)
DELTA = DeltaAttention(key_heads=16, value_heads=32, key_dim=128, value_dim=128)
BUILDERS = [(mamba2, TWO), (mamba1, ONE), (delta_attention, DELTA)]


def test_projections_of_mamba_2():
    parts = components(mamba2(TWO, 2688, Tokens(1.0, 10.0, 10.0), execution(), "m"))
    assert parts["m.in"].flop == 2 * 10 * 2688 * (2 * 4096 + 2 * 8 * 128 + 64)
    assert parts["m.out"].flop == 2 * 10 * 4096 * 2688


def test_projections_of_mamba_1():
    parts = components(mamba1(ONE, 512, Tokens(1.0, 10.0, 10.0), execution(), "m"))
    assert parts["m.in"].flop == 2 * 10 * 512 * 2048
    assert parts["m.parameters"].flop == 2 * 10 * 1024 * (32 + 32)
    assert parts["m.delta"].flop == 2 * 10 * 32 * 1024


def test_projections_of_the_gated_delta_net():
    parts = components(delta_attention(DELTA, 2048, Tokens(1.0, 10.0, 10.0), execution(), "d"))
    assert parts["d.in"].flop == 2 * 10 * 2048 * (2 * 2048 + 2 * 4096 + 2 * 32)
    assert parts["d.out"].flop == 2 * 10 * 4096 * 2048


@pytest.mark.parametrize(("build", "mixer"), BUILDERS)
def test_a_decode_step_costs_the_same_at_any_context(build, mixer):
    """What a growing cache would cost, a state does not."""
    steps = [build(mixer, 512, Tokens(4.0, 1.0, n, decode=True), execution(), "r") for n in (10.0, 1e6)]
    assert components(steps[0]) == components(steps[1])


@pytest.mark.parametrize(("build", "mixer"), BUILDERS)
def test_a_decode_step_reads_and_writes_its_state(build, mixer):
    values = {TWO: 64 * 64 * 128, ONE: 1024 * 16, DELTA: 32 * 128 * 128}[mixer]
    scan = components(build(mixer, 512, Tokens(4.0, 1.0, 10.0, decode=True), execution(), "r"))["r.scan"]
    assert scan.bytes == pytest.approx(2 * 4 * values * 4, rel=0.05)


@pytest.mark.parametrize(("build", "mixer"), BUILDERS)
@pytest.mark.parametrize("tokens", [Tokens(4.0, 256.0, 256.0), Tokens(4.0, 1.0, 256.0, decode=True)])
def test_ranks_divide_projections_and_scan(build, mixer, tokens):
    one = build(mixer, 512, tokens, execution(), "r")
    cuts: list[dict[str, Any]] = [{"tp": 4.0}, {"cp": 4.0}, {"tp": 2.0, "cp": 2.0}]
    for cut in cuts:
        four = build(mixer, 512, tokens, execution(**cut), "r")
        shared = 1.2 if "tp" in cut else 1.0  # Mamba-1's Δ, B and C are needed whole by every tensor-parallel rank
        assert flop(one, "gemm") / 4 <= flop(four, "gemm") * (1 + 1e-9) <= flop(one, "gemm") / 4 * shared * (1 + 1e-9)
        assert flop(four, "scan") == pytest.approx(flop(one, "scan") / 4, rel=0.02)


@pytest.mark.parametrize(("groups", "ranks", "here"), [(8, 1, 8), (8, 4, 2), (8, 8, 1), (8, 16, 1), (1, 4, 1)])
def test_with_more_ranks_than_groups_each_keeps_a_copy_of_one(groups, ranks, here):
    assert groups_per_rank(float(groups), float(ranks)) == here


def test_mamba_keeps_what_its_fused_kernel_keeps():
    """mamba_ssm saves the block's input, the whole input projection (z, x, B, C, dt) and the scan's output; the convolution
    and the scan's inputs are computed again. Less would be too little memory for a training step.
    """
    mixer, tokens = Mamba2(heads=80, head_dim=64, state_dim=128, groups=1), 2048.0
    run = Execution(Formats((("default", "bf16"),)), training=True)
    work = mamba2(mixer, 2560, Tokens(1.0, tokens, tokens), run, "l.mamba")
    inner = 80 * 64
    kept = 2560 + (2 * inner + 2 * 128 + 80) + inner
    assert saved_bytes(work, 2560, 1.0, False) == pytest.approx(2.0 * tokens * kept)
