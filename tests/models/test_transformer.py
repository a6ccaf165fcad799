"""Whole models as work, against hand counts (issue 2; design §5)."""

import numpy as np
import pytest

from ridgepoint.models.architecture import Embedding, FeedForward, Layer, Model, SelfAttention, Stack
from ridgepoint.models.catalog import find_model
from ridgepoint.models.execution import Tokens
from ridgepoint.models.parameters import active_parameters, parameters, total_parameters
from ridgepoint.models.transformer import embed, stack_work
from ridgepoint.tasks import Decode, Forward, Prefill
from tests.models.parts import built, components, execution, flop


# issue 2: hand counts of Llama-3-8B, prefill of 1024 tokens with last-position logits
def test_llama_3_8b_prefill():
    work = built("llama-3-8b", Prefill(batch=1, prompt=1024)).device
    layer = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336
    assert flop(work, "gemm") == 2 * 1024 * 32 * layer + 2 * 4096 * 128256
    assert f"{flop(work, 'gemm') / 1e12:.4f}" == "14.2947"
    assert flop(work, "attention") == 32 * 32 * 4 * 128 * (1024 * 1025 / 2)
    assert f"{flop(work, 'attention') / 1e12:.4f}" == "0.2751"


def test_the_exact_causal_count_of_2048_tokens():
    """Peers count it non-causal (32.94) or without attention (30.74); the exact count is 31.84 (peers §2b)."""
    work = built("llama-3-8b", Forward(batch=1, seq=2048)).device
    assert f"{flop(work, 'gemm', 'attention') / 1e12:.2f}" == "31.84"


@pytest.mark.parametrize(
    ("name", "active", "total"),
    [("deepseek-v3", 37e9, 671e9), ("mixtral-8x7b", 12.9e9, 46.7e9), ("gpt-oss-120b", 5.1e9, 117e9)],
)
def test_active_and_all_parameters(name, active, total):
    model = find_model(name)
    assert active_parameters(model) == pytest.approx(active, rel=0.012)
    assert total_parameters(model) == pytest.approx(total, rel=0.01)


# Every matrix of a model multiplies every token once: a layer builder that forgets a projection falls out here.
@pytest.mark.parametrize(
    "name",
    ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "gemma-3-27b", "qwen3.5-35b-a3b", "nemotron-3-nano",
     "nemotron-3-super", "jamba-52b", "falcon-40b", "glm-5", "llama-4-scout", "bert-large", "gpt2-xl", "opt-1.3b",
     "granite-3.0-3b-a800m", "qwen1.5-moe-a2.7b", "phi-3.5-moe"],
)  # fmt: skip
@pytest.mark.parametrize("task", [Forward(batch=2, seq=64), Decode(batch=1, context=64)])
def test_flops_of_products_are_two_per_active_weight_and_token(name, task):
    model = find_model(name)
    if isinstance(task, Decode) and model.decoder is None:
        return
    count, table = parameters(model), model.embedding
    matrices = active_parameters(model, embedding=True) - (0 if table.tied and table.head else count["embedding"])
    beside = ("embedding.positions", "embedding.types", "other.pooler", "other.mlm_head", "other.head_transform")
    matrices -= sum(value for part, value in count.items() if part in beside)
    tokens = 128 if isinstance(task, Forward) else 1
    assert flop(built(name, task).device, "gemm") == pytest.approx(2 * tokens * matrices, rel=0.006)


def test_a_decode_step_reads_every_active_weight_once():
    """Batch 1: weights of the touched experts, not of all (peers §4)."""
    for name in ("llama-3.1-8b", "mixtral-8x7b"):
        model = find_model(name)
        parts = components(built(name, Decode(batch=1, context=1)).device)
        read = sum(c.bytes for c in parts.values() if c.kind == "gemm")
        table = parameters(model)["embedding"]
        assert read == pytest.approx(2 * (active_parameters(model, True) - table), rel=0.005)


def test_a_prefill_computes_logits_for_the_last_position_only():
    work = built("llama-3.1-8b", Prefill(batch=3, prompt=100)).device
    assert components(work)["head.logits"].flop == 2 * 3 * 4096 * 128256
    work = built("llama-3.1-8b", Forward(batch=3, seq=100)).device
    assert components(work)["head.logits"].flop == 2 * 300 * 4096 * 128256


def test_an_encoder_decoder_reads_the_prompt_with_its_encoder():
    parts = components(built("t5-large", Prefill(batch=1, prompt=512)).device)
    assert parts["encoder.layers.attention.qkv"].flop == 24 * 2 * 512 * 1024 * 3 * 1024
    assert parts["layers.attention.qkv"].flop == 24 * 2 * 1 * 1024 * 3 * 1024
    assert parts["layers.cross.key_value"].flop == 24 * 2 * 512 * 1024 * 2 * 1024
    assert parts["encoder.layers.attention.attention"].flop == 24 * 4 * 512 * 512 * 1024
    step = components(built("t5-large", Decode(batch=1, context=512)).device)
    assert "layers.cross.key_value" not in step
    assert not any(label.startswith("encoder") for label in step)


def test_equal_layers_are_told_once_and_counted_all():
    same = Layer(SelfAttention(4, 2, 16), FeedForward(128))
    other = Layer(SelfAttention(4, 2, 16, window=8), FeedForward(128))
    stack = Stack(64, ((same, 1), (other, 1), (same, 2)))
    work = stack_work(stack, Tokens(1.0, 16.0, 16.0), execution(), "layers")
    assert [repeat.count for repeat in work.children()] == [3.0, 1.0]  # type: ignore[attr-defined]
    assert flop(work, "gemm") == 4 * 2 * 16 * (64 * (64 + 64) + 64 * 64 + 3 * 64 * 128)


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallel_ranks_divide_the_products_and_add_up_twice_a_layer(tp):
    one, many = (built("llama-3.1-8b", Prefill(batch=1, prompt=512), tp=n) for n in (1, tp))
    assert flop(many.device, "gemm") == pytest.approx(flop(one.device, "gemm") / tp)
    assert flop(many.device, "attention") == pytest.approx(flop(one.device, "attention") / tp)
    parts = components(many.device)
    assert parts["layers.attention.all_reduce"].count == 32
    assert parts["layers.feed.all_reduce"].count == 32
    assert not any(c.kind == "collective" for c in components(one.device).values())


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "deepseek-v3", "qwen3.5-35b-a3b", "nemotron-3-nano", "jamba-52b", "bert-large", "t5-large"]
)
def test_context_parallel_ranks_split_all_work_exactly(name):
    """What a rank kept to itself would be missing; what every rank repeated would be counted twice."""
    one, four = (built(name, Forward(batch=1, seq=4096), cp=n).device for n in (1, 4))
    for kind in ("gemm", "attention", "scan"):
        if flop(one, kind):
            assert flop(four, kind) == pytest.approx(flop(one, kind) / 4, rel=0.02 if kind == "scan" else 1e-9)
    assert any(c.kind == "collective" for c in components(four).values())


def test_a_context_parallel_decode_step_splits_the_keys():
    one, four = (components(built("llama-3.1-8b", Decode(batch=4, context=8192), cp=n).device) for n in (1, 4))
    for label in ("layers.attention.attention", "layers.attention.qkv", "layers.feed.down"):
        assert four[label].flop == one[label].flop / 4
    assert four["head.logits"].flop == one["head.logits"].flop
    lone = components(built("llama-3.1-8b", Decode(batch=1, context=8192), cp=4).device)
    assert lone["layers.feed.down"].flop == one["layers.feed.down"].flop / 4  # a token is not split


def test_a_narrow_embedding_is_projected():
    """OPT-350M keeps 512 values per token and works in 1024."""
    model = Model("narrow", Embedding(1000, width=32, tied=True), decoder=Stack(64, ()))
    assert flop(embed(model, 10.0, execution()), "gemm") == 2 * 10 * 32 * 64


def test_an_array_of_prompts_equals_its_points():
    prompts = np.array([1.0, 100.0, 4096.0])
    together = flop(built("qwen3.5-35b-a3b", Prefill(batch=1, prompt=prompts)).device, "gemm", "attention", "scan")
    alone = [
        flop(built("qwen3.5-35b-a3b", Prefill(batch=1, prompt=p)).device, "gemm", "attention", "scan") for p in prompts
    ]
    assert np.allclose(together, alone, rtol=1e-12)
