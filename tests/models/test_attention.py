"""Attention layers as work: grouped queries, windows, blocks, latents, ranks (design §5)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.kernels.attention import attended_pairs
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.models.attention import (
    cross_attention,
    kv_heads_per_rank,
    latent_attention,
    self_attention,
)
from ridgepoint.models.context import split_context
from ridgepoint.models.execution import Tokens
from ridgepoint.tasks import Decode, Prefill
from tests.models.parts import built, components, execution, flop

GQA = SelfAttention(heads=32, kv_heads=8, head_dim=128)
MLA = LatentAttention(heads=16, q_rank=512, kv_rank=256, nope_dim=64, rope_dim=32, value_dim=64)


@pytest.mark.parametrize(("tp", "heads"), [(1, 8), (4, 2), (8, 1), (16, 1), (32, 1)])
def test_with_more_ranks_than_key_value_heads_each_keeps_a_copy_of_one(tp, heads):
    assert kv_heads_per_rank(GQA, float(tp)) == heads


def test_projections_of_grouped_queries():
    parts = components(self_attention(GQA, 4096, Tokens(2.0, 100.0, 100.0), execution(), True, "a"))
    assert parts["a.qkv"].flop == 2 * 200 * 4096 * (32 + 2 * 8) * 128
    assert parts["a.output"].flop == 2 * 200 * 4096 * 32 * 128
    assert parts["a.attention"].flop == 2 * 32 * 4 * 128 * 100 * 101 / 2


def test_an_output_gate_doubles_the_query_projection():
    gated = SelfAttention(heads=16, kv_heads=2, head_dim=256, output_gate=True)
    parts = components(self_attention(gated, 2048, Tokens(1.0, 10.0, 10.0), execution(), True, "a"))
    assert parts["a.qkv"].flop == 2 * 10 * 2048 * (2 * 16 + 2 * 2) * 256
    assert "a.gate" in parts


def test_decode_reads_keys_and_values_once_each():
    """KV bytes count K and V once each, for the key–value heads only (peers §2b: 4.30 GB, not 8.59 or 17.18)."""
    part = components(built("llama-3-8b", Decode(batch=16, context=2048)).device)["layers.attention.attention"]
    cache = 16 * 2048 * 131072
    assert cache == pytest.approx(4.295e9, rel=1e-3)
    queries_and_outputs = 32 * 16 * 2 * 32 * 128 * 2
    assert part.bytes == cache + queries_and_outputs


@pytest.mark.parametrize(
    ("name", "context", "keys"),
    [
        ("gpt-oss-20b", 100_000, 12 * 128 + 12 * 100_000),
        ("gemma-3-27b", 100_000, 52 * 1024 + 10 * 100_000),
        ("llama-4-scout", 10_000, 36 * (10_000 - 8192) + 12 * 10_000),  # the block's own positions only
        ("qwen3.5-35b-a3b", 10_000, 10 * 10_000),
    ],
)
def test_windows_blocks_and_hybrids_attend_to_what_their_layers_see(name, context, keys):
    parts = components(built(name, Decode(batch=1, context=context)).device)
    mixers = {"gpt-oss-20b": 64 * 64, "gemma-3-27b": 32 * 128, "llama-4-scout": 40 * 128, "qwen3.5-35b-a3b": 16 * 256}
    assert parts["layers.attention.attention"].flop == 4 * keys * mixers[name]


@given(st.integers(1, 3000), st.integers(0, 3000), st.integers(1, 64), st.booleans())
def test_context_parallel_ranks_do_exactly_their_part_of_the_pairs(new, history, cp, causal):
    tokens = Tokens(1.0, float(new), float(new + history))
    queries, keys = split_context(tokens, float(cp), causal)
    whole = attended_pairs(tokens.new, tokens.context, causal)
    if causal:  # the closed form of whole lengths also holds for the fractions of a split
        assert queries * keys - queries * (queries - 1) / 2 == pytest.approx(whole / cp)
    else:
        assert queries * keys == pytest.approx(whole / cp)


def test_context_parallel_decode_shares_a_window_out():
    windowed = SelfAttention(heads=8, kv_heads=8, head_dim=64, window=1024)
    tokens = Tokens(4.0, 1.0, 1e5, decode=True)
    one, four = (self_attention(windowed, 512, tokens, execution(cp=n), True, "a") for n in (1.0, 4.0))
    assert components(four)["a.attention"].flop == components(one)["a.attention"].flop / 4


def test_unfused_attention_writes_its_scores():
    """Without an I/O-aware kernel the scores of all q × kv pairs go through main memory, several times."""
    tokens = Tokens(1.0, 1000.0, 1000.0)
    fused, plain = (self_attention(GQA, 4096, tokens, execution(fused_attention=f), True, "a") for f in (True, False))
    parts = components(plain)
    assert parts["a.attention.scores"].flop == parts["a.attention.values"].flop == 2 * 32 * 1000 * 1000 * 128
    assert parts["a.attention.softmax"].bytes == 2 * 2 * 32 * 1000 * 1000
    assert sum(c.bytes for c in parts.values()) > 2 * sum(c.bytes for c in components(fused).values())


def test_cross_attention_projects_keys_only_when_the_encoder_output_is_new():
    mixer = SelfAttention(heads=16, kv_heads=16, head_dim=64)
    first = components(cross_attention(mixer, 1024, Tokens(2.0, 1.0, 1.0), 512.0, execution(), "x"))
    step = components(cross_attention(mixer, 1024, Tokens(2.0, 1.0, 9.0, decode=True), 512.0, execution(), "x"))
    assert first["x.key_value"].flop == 2 * 2 * 512 * 1024 * 2 * 1024
    assert "x.key_value" not in step
    assert step["x.attention"].flop == 2 * 4 * 512 * 1024


# DeepSeek-AI 2024, §2.1: a decode step attends in latent space, all heads over one cached latent
def test_latent_attention_absorbs_its_expansions_in_decode():
    step = latent_attention(MLA, 1024, Tokens(8.0, 1.0, 4096.0, decode=True), execution(), True, "m")
    parts = components(step)
    assert parts["m.absorb_query"].flop == 2 * 8 * 16 * 64 * 256
    assert parts["m.absorb_value"].flop == 2 * 8 * 16 * 256 * 64
    assert parts["m.attention"].flop == 2 * 8 * 16 * 4096 * (256 + 32 + 256)
    latent = 8 * 4096 * (256 + 32) * 2  # not once per head, and values are the same bytes as keys
    assert parts["m.attention"].bytes == latent + 8 * 16 * (256 + 32 + 256) * 2


def test_latent_attention_expands_keys_and_values_in_prefill():
    parts = components(latent_attention(MLA, 1024, Tokens(2.0, 64.0, 64.0), execution(), True, "m"))
    assert parts["m.key_value_up"].flop == 2 * 128 * 256 * 16 * (64 + 64)
    assert parts["m.attention"].flop == 2 * 2 * 16 * (64 * 65 / 2) * (64 + 32 + 64)


def test_both_forms_of_latent_attention_multiply_the_same_weights():
    """Absorbed or expanded, a token passes through every projection once."""
    one_token = Tokens(1.0, 1.0, 1.0), Tokens(1.0, 1.0, 1.0, decode=True)
    expanded, absorbed = (flop(latent_attention(MLA, 1024, t, execution(), True, "m"), "gemm") for t in one_token)
    assert expanded == absorbed


def test_sparse_attention_reads_the_keys_that_its_indexer_keeps():
    sparse = LatentAttention(16, 512, 256, 64, 32, 64, index_heads=8, index_dim=128, index_topk=2048)
    step = components(latent_attention(sparse, 1024, Tokens(1.0, 1.0, 1e5, decode=True), execution(), True, "m"))
    assert step["m.attention"].flop == 2 * 16 * 2048 * (256 + 32 + 256)
    assert step["m.index_scores"].flop == pytest.approx(2 * 8 * 1e5 * 128, rel=0.01)


def test_narrow_inputs_are_quantized_on_the_way_in():
    parts = components(built("llama-3.1-8b", Prefill(batch=1, prompt=64), weights="fp8", acts="fp8").device)
    assert "layers.attention.output.quantize" in parts
    assert "head.logits.quantize" not in parts  # the head stays in 16 bits
    wide = components(built("llama-3.1-8b", Prefill(batch=1, prompt=64), weights="int4").device)
    assert not any("quantize" in label for label in wide)
    assert wide["layers.attention.qkv"].bytes < parts["layers.attention.qkv"].bytes


@pytest.mark.parametrize("cp", [np.array([1.0, 2.0]), 2.0])
def test_ranks_exchange_keys_and_values_of_their_slices(cp):
    work = self_attention(GQA, 4096, Tokens(1.0, 1024.0, 1024.0), execution(cp=cp), True, "a")
    (op,) = [part for part in work.children() if part.label == "a.context_exchange"]
    assert op.bytes == 1024 * 2 * 8 * 128 * 2  # type: ignore[attr-defined]
