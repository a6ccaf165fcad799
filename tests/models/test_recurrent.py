"""Layers with a recurrent state: projections by hand, a constant cost per token, ranks (design §5)."""

from dataclasses import replace
from typing import Any

import pytest

from ridgepoint.models.architecture import DeltaAttention, FeedForward, Mamba1, Mamba2, Recurrence
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Execution, Formats, Tokens
from ridgepoint.models.feed import dense
from ridgepoint.models.parameters import feed_parameters, mixer_parameters, total_parameters
from ridgepoint.models.recurrent import delta_attention, groups_per_rank, mamba1, mamba2, recurrence
from ridgepoint.models.state import cache_bytes, saved_bytes, weight_bytes
from ridgepoint.ops import Scan
from ridgepoint.work import ops
from tests.models.parts import components, execution, flop

TWO = Mamba2(heads=64, head_dim=64, state_dim=128, groups=8, chunk=128)
ONE = Mamba1(inner=1024, state_dim=16, dt_rank=32)
DELTA = DeltaAttention(key_heads=16, value_heads=32, key_dim=128, value_dim=128)
WKV = Recurrence(512, 3, 1, inputs=1536, scan="wkv", vectors=2560, mixes=3, shifted=1024)
LRU = Recurrence(8, 1, 64, inputs=1024, scan="lru", products=((64, 64, 16),), conv_kernel=4, conv_channels=512)
MATRIX = Recurrence(8, 64, 128, inputs=3088, products=((16, 512, 1),), vectors=640)
BUILDERS = [
    *((mamba2, TWO), (mamba1, ONE), (delta_attention, DELTA)),
    *((recurrence, WKV), (recurrence, LRU), (recurrence, MATRIX)),
]


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
    states = [64 * 64 * 128, 1024 * 16, 32 * 128 * 128, 512 * 3.75, 512 * 2, 8 * 64 * 128]
    values = states[
        [m for _, m in BUILDERS].index(mixer)
    ]  # of channels with inputs and outputs, beside which states are little
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


def test_projections_of_a_gated_linear_recurrence():
    """Wrong: a low-rank or block-diagonal product is lost, or runs as a full one."""
    parts = components(recurrence(MATRIX, 512, Tokens(1.0, 10.0, 10.0), execution(), "r"))
    assert parts["r.in"].flop == 2 * 10 * 512 * 3088
    assert parts["r.product1"].flop == 2 * 10 * 16 * 512
    assert parts["r.out"].flop == 2 * 10 * 1024 * 512
    parts = components(recurrence(LRU, 512, Tokens(1.0, 10.0, 10.0), execution(), "r"))
    assert parts["r.product1"].flop == 2 * 10 * 64 * 64 * 16
    assert mixer_parameters(LRU, 512) == 512 * 1024 + 16 * 64 * 64 + 4 * 512 + 512 * 512


def test_the_paper_of_rwkv_counts_the_same_parameters():
    """Peng et al. 2024, §5: Eagle 13·D²·L + 14·D·L + 4·D + 2·D·V, Finch 464·D·L instead of 14."""
    for name, dim, depth, linear in (("eagle-7b", 4096, 32, 14), ("finch-1.6b", 2048, 24, 464)):
        expected = 13 * dim**2 * depth + linear * dim * depth + 4 * dim + 2 * dim * 65536
        assert total_parameters(find_model(name)) == expected


@pytest.mark.parametrize(
    ("name", "layers", "fp32", "stream"),
    [
        (
            "rwkv-4-169m",
            12,
            3 * 768,
            2 * 768,
        ),  # Peng et al. 2023: a weighted sum, its weight and maximum; two old tokens
        ("rwkv-6-1.6b", 24, 64 * 2048, 2 * 2048),  # Peng et al. 2024: (66·D values per layer)
        ("xlstm-7b", 32, 8 * 256 * 512, 0),
        ("retnet-1.3b", 24, 8 * 256 * 512, 0),
    ],
)
def test_states_have_the_published_sizes(name, layers, fp32, stream):
    for context in (10.0, 1e5):
        assert cache_bytes(find_model(name), 3.0, context, execution()) == 3 * layers * (4 * fp32 + 2 * stream)


def test_griffin_keeps_a_state_and_a_window():
    """De et al. 2024: one number per channel, three inputs of the convolution, and at most 2048 keys of one head."""
    recurrent, local = 18 * 2560 * (4 + 3 * 2), 8 * 2048 * 2 * 256 * 2
    assert cache_bytes(find_model("recurrentgemma-2b"), 1.0, 1e6, execution()) == recurrent + local


def test_channel_mixing_has_a_gate_as_wide_as_the_model():
    feed = FeedForward(2048, gated=False, receptance=True)
    assert feed_parameters(feed, 512) == 2 * 512 * 2048 + 512 * 512 + 2 * 512
    parts = components(dense(feed, 512, Tokens(1.0, 10.0, 10.0), execution(), "f"))
    assert parts["f.receptance"].flop == 2 * 10 * 512 * 512


def test_shared_layers_are_stored_once_and_run_every_time():
    """ALBERT: 11.7 M parameters, but the work of twelve layers."""
    albert, bert = find_model("albert-base-v2"), find_model("bert-base")
    assert total_parameters(albert) == 11_683_584
    stored = weight_bytes(albert, execution())
    assert stored["attention"] + stored["feed"] == 2 * (4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768)
    (layer, count), *more = albert.main.layers
    assert isinstance(layer.feed, FeedForward)
    plainly = replace(layer, feed=replace(layer.feed, composed=""))  # its GELU is one that eager code composes
    assert ((plainly, count), *more) == bert.main.layers


def test_a_decay_for_every_channel_runs_as_kimi_delta_attention():
    gated = DeltaAttention(16, 16, 128, 128, channel_gate=True)
    for mixer, variant in ((DELTA, "gated_delta"), (gated, "kda")):
        work = delta_attention(mixer, 2048, Tokens(1.0, 10.0, 10.0), execution(), "d")
        assert [op.variant for op in ops(work) if isinstance(op, Scan)] == [variant]


def test_kimi_deltas_gates_are_of_low_rank():
    """Kimi Team 2025: decays and output gates through 128 channels. Full-rank gates would add 172 M parameters to 49.12 B."""
    mixer = DeltaAttention(32, 32, 128, 128, channel_gate=True, gate_rank=128)
    wide = 32 * 128
    low = 2 * (2304 * 128 + 128 * wide) + wide + 2304 * 32
    assert mixer_parameters(mixer, 2304) == 4 * 2304 * wide + low + 32 + 3 * wide * 4 + 128
    parts = components(delta_attention(mixer, 2304, Tokens(1.0, 10.0, 10.0), execution(), "d"))
    assert parts["d.gate_down"].flop == 2 * 10 * 2304 * (128 + 128 + 32)
    assert parts["d.gate_up"].flop == parts["d.decay_up"].flop == 2 * 10 * 128 * wide
