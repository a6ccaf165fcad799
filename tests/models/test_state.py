"""What lies in memory: weights, caches and states, saved activations, by hand (design §3, peers §4)."""

import numpy as np
import pytest

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Experts, FeedForward, Layer, SelfAttention
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Cut, Execution, Formats, Tokens
from ridgepoint.models.parameters import parameters, total_parameters
from ridgepoint.models.state import cache_bytes, layer_bytes, saved_bytes, stage_share, weight_bytes
from ridgepoint.models.transformer import layer_work
from tests.models.parts import execution

ALL = ["llama-3.1-8b", "deepseek-v3", "mixtral-8x7b", "gpt-oss-120b", "gemma-3-27b", "qwen3.5-35b-a3b", "t5-large",
       "nemotron-3-super", "bert-large", "opt-350m", "gpt2-xl", "jamba-52b", "llama-4-scout", "falcon-40b"]  # fmt: skip


def cache(name, context, batch=1.0, source=0.0, pp=1.0, **cut):
    return cache_bytes(find_model(name), batch, float(context), execution(**cut), pp, source)


@pytest.mark.parametrize("name", ALL)
def test_weights_are_parameters_times_their_format(name):
    model = find_model(name)
    assert sum(weight_bytes(model, execution()).values()) == pytest.approx(2 * total_parameters(model), rel=2e-3)


def test_every_component_has_its_own_format():
    mixed = Execution(Formats((("default", "int4"), ("head", "bf16"), ("embedding", "fp32"))))
    model = find_model("llama-3.1-8b")
    found, count = weight_bytes(model, mixed), parameters(model)
    assert found["feed"] == pytest.approx(count["layers.feed"] * FORMATS["int4"].bytes)
    assert found["tables"] == pytest.approx(4 * count["embedding"] + 2 * count["head"])


# peers §4: the most frequent bug class. K and V once each; windows, hybrids, blocks, latents, encoders
@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama-3.1-8b", 32 * 2 * 8 * 128 * 2),
        ("llama-2-7b", 32 * 2 * 32 * 128 * 2),
        ("falcon-7b", 32 * 2 * 1 * 64 * 2),
        ("deepseek-v3", 61 * 576 * 2),
        ("qwen3-32b", 64 * 2 * 8 * 128 * 2),
    ],
)
def test_cache_per_token(name, per_token):
    assert cache(name, 1) == per_token
    assert cache(name, 1000, batch=7.0) == 7000 * per_token


def test_the_figures_of_the_issue():
    assert cache("llama-3.1-8b", 1) == 131072
    assert cache("deepseek-v3", 1) == 61 * 576 * 2 == 70272


@pytest.mark.parametrize("context", [1, 128, 129, 8192, 100_000])
def test_caches_of_windowed_blocked_and_hybrid_layers(context):
    assert cache("gpt-oss-20b", context) == (12 * min(context, 128) + 12 * context) * 2 * 8 * 64 * 2
    assert cache("gemma-3-27b", context) == (52 * min(context, 1024) + 10 * context) * 2 * 16 * 128 * 2
    assert cache("llama-4-scout", context) == (36 * min(context, 8192) + 12 * context) * 2 * 8 * 128 * 2
    delta = 32 * 128 * 128 * 4 + (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert cache("qwen3.5-35b-a3b", context) == 10 * context * 2 * 2 * 256 * 2 + 30 * delta
    # MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME: 23 Mamba-2 and 6 attention layers
    mamba = 64 * 64 * 128 * 4 + (64 * 64 + 2 * 8 * 128) * 3 * 2
    assert cache("nemotron-3-nano", context) == 6 * context * 2 * 2 * 128 * 2 + 23 * mamba
    jamba = 8192 * 16 * 4 + 8192 * 3 * 2
    assert cache("jamba-52b", context) == 4 * context * 2 * 8 * 128 * 2 + 28 * jamba


def test_a_decoder_keeps_its_encoders_keys_once():
    own, other = 24 * 2 * 16 * 64 * 2, 24 * 2 * 16 * 64 * 2
    assert cache("t5-large", 10, source=512.0) == 10 * own + 512 * other


def test_narrow_caches_take_their_format():
    run = Execution(Formats((("default", "bf16"),), kv="fp8"))
    assert cache_bytes(find_model("llama-3.1-8b"), 1.0, 1000.0, run) == 1000 * 65536


def test_ranks_divide_the_cache_as_far_as_it_has_heads():
    """With more ranks than key–value heads each keeps a copy; a latent is whole on every rank."""
    assert cache("llama-3.1-8b", 100, tp=4.0) == 100 * 131072 / 4
    assert cache("llama-3.1-8b", 100, tp=16.0) == 100 * 131072 / 8
    assert cache("llama-3.1-8b", 100, cp=4.0) == 100 * 131072 / 4
    assert cache("llama-3.1-8b", 100, pp=4.0) == 100 * 131072 / 4
    assert cache("deepseek-v3", 100, tp=8.0) == 100 * 70272
    assert cache("deepseek-v3", 100, cp=8.0) == 100 * 70272 / 8


def test_ranks_divide_the_weights():
    model = find_model("llama-3.1-8b")
    whole = sum(weight_bytes(model, execution()).values())
    assert sum(weight_bytes(model, execution(tp=8.0)).values()) == pytest.approx(whole / 8, rel=1e-3)
    copied = weight_bytes(model, execution(tp=16.0))["attention"] - weight_bytes(model, execution())["attention"] / 16
    assert copied == pytest.approx(32 * 2 * (1 - 0.5) * 128 * 4096 * 2)
    mixture, count = find_model("mixtral-8x7b"), parameters(find_model("mixtral-8x7b"))
    for tp, ep, parts in ((1, 8, 8), (8, 8, 8), (8, 1, 8), (4, 2, 4), (2, 8, 8)):
        found = weight_bytes(mixture, execution(tp=float(tp), ep=float(ep)))
        assert found["experts"] == pytest.approx(2 * count["layers.experts"] / parts), (tp, ep)


def test_pipeline_stages_hold_whole_layers_and_one_table():
    model = find_model("llama-3.1-8b")
    one, four, five = (weight_bytes(model, execution(), pp) for pp in (1.0, 4.0, 5.0))
    assert four["feed"] == one["feed"] / 4
    assert five["feed"] == one["feed"] * 7 / 32  # the fullest of five stages has 7 of 32 layers
    assert four["tables"] == one["tables"] / 2
    assert stage_share(61, np.array([1.0, 2.0, 61.0])).tolist() == [1.0, 31 / 61, 1 / 61]  # type: ignore[union-attr]
    tied = find_model("gpt2-xl")
    assert weight_bytes(tied, execution(), 2.0)["tables"] == weight_bytes(tied, execution())["tables"]


def saved(layer, hidden, tp=1.0, sequence=False, fused=True):
    run = execution(tp=tp, sequence=sequence, fused_attention=fused, training=True)
    return saved_bytes(
        layer_work(layer, hidden, Tokens(1.0, 1000.0, 1000.0), run, True, "layers", 0.0), hidden, tp, sequence
    )


# Korthikanti et al. 2022: 34 bytes per token and hidden unit, two of them for two dropout masks
def test_saved_activations_of_a_gpt_layer():
    layer = Layer(SelfAttention(16, 16, 64), FeedForward(4096, gated=False))
    statistics = 4 * 16  # what the fused kernel keeps of the softmax, per token
    assert saved(layer, 1024) == 1000 * (32 * 1024 + statistics)
    # 5·a·s bytes per token unfused: scores before and after softmax in 16 bits, less the mask
    assert saved(layer, 1024, fused=False) == pytest.approx(1000 * (32 * 1024 + 2 * 2 * 16 * 1000), rel=0.02)
    assert saved(layer, 1024, tp=8.0, sequence=True) == pytest.approx(saved(layer, 1024) / 8)
    assert saved(layer, 1024, tp=8.0) == pytest.approx(1000 * (8 * 1024 + (24 * 1024 + statistics) / 8))


def test_sequence_parallel_ranks_shard_only_what_is_as_wide_as_the_stream():
    """With head width × heads / tp equal to the hidden width, the output's input is not taken for the stream."""
    layer = Layer(SelfAttention(32, 4, 128), FeedForward(2048))
    once, array = saved(layer, 2048, tp=2.0, sequence=True), saved(layer, 2048, tp=np.array([1.0, 2.0]), sequence=True)
    assert once == pytest.approx(saved(layer, 2048) / 2)
    assert np.allclose(array, [saved(layer, 2048), once])


def test_experts_keep_what_their_tokens_fill_not_what_a_dense_part_would():
    """Megatron-LM issue 1784: MoE activations priced as dense."""
    run = execution(training=True)
    layer = Layer(None, Experts(64, 2, 512), norms=0)
    work = layer_work(layer, 1024, Tokens(1.0, 1000.0, 1000.0), run, True, "layers", 0.0)
    rows = 1000 * 2
    inputs, router = rows * 1024 * 2, 1000 * 1024 * 2
    assert saved_bytes(work, 1024, 1.0, False) == pytest.approx(router + inputs + rows * 512 * 3 * 2)


def test_layer_bytes_of_a_router_are_whole_on_every_rank():
    layer = Layer(None, Experts(64, 2, 512), norms=0)
    run = Execution(Formats((("default", "bf16"),)), Cut(tp=8.0, ep=8.0))
    assert layer_bytes(layer, 1024, run)["router"] == 64 * 1024 * 2
