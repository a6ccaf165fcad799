"""Reading Hugging Face configurations: shapes, layer patterns, biases, norms (design §5)."""

from dataclasses import replace

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import (
    DeltaAttention,
    Experts,
    FeedForward,
    Mamba1,
    Mamba2,
    SelfAttention,
)
from ridgepoint.models.huggingface import read_config
from ridgepoint.models.parameters import active_parameters, parameters, total_parameters
from tests.models.configs import LATENT, LLAMA, MOE, attention, layers, read, sparse, windows

# Shapes of heads


def test_head_dim_need_not_be_an_equal_part_of_the_hidden_size():
    assert attention(read(head_dim=32))[0].head_dim == 32
    assert attention(read())[0].head_dim == 8


def test_kv_heads_default_to_all_heads_and_null_means_absent():
    assert attention(read(num_key_value_heads=None))[0].kv_heads == 8
    assert attention(read())[0].kv_heads == 2


@pytest.mark.parametrize(
    ("keys", "kv_heads", "norms", "parallel"),
    [
        ({"multi_query": True, "parallel_attn": True, "num_kv_heads": 8}, 1, 1, True),
        ({"new_decoder_architecture": True, "num_kv_heads": 4}, 4, 2, True),
        ({"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}, 8, 2, False),
    ],
)
def test_falcon_generations(keys, kv_heads, norms, parallel):
    base = {k: v for k, v in LLAMA.items() if k not in ("num_key_value_heads", "intermediate_size")}
    model = read_config({**base, "model_type": "falcon", **keys}, "config.json", "falcon")
    layer = layers(model)[0]
    assert (attention(model)[0].kv_heads, layer.norms, layer.parallel) == (kv_heads, norms, parallel)
    assert layer.feed == FeedForward(4 * 64, gated=False, bias=keys.get("bias", False))
    assert model.embedding.tied


# Windows


def test_mistral_has_its_window_in_every_layer_and_none_where_it_is_null():
    assert windows(read(model_type="mistral", sliding_window=4096)) == [4096] * 4
    assert windows(read(model_type="mistral", sliding_window=None)) == [0] * 4


def test_a_window_as_long_as_the_context_never_binds():
    assert windows(read(model_type="mistral", sliding_window=8192)) == [0] * 4


def test_qwen2_ignores_its_window_unless_told_to_use_it():
    keys = {"model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 3}
    assert windows(read(**keys)) == [0] * 4
    assert windows(read(**keys, use_sliding_window=False)) == [0] * 4
    assert windows(read(**keys, use_sliding_window=True)) == [0, 0, 0, 4096]


def test_layer_types_come_before_the_family_rule():
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert windows(read(model_type="gemma2", sliding_window=512, layer_types=types)) == [0, 512, 512, 0]
    assert windows(read(model_type="gemma2", sliding_window=512)) == [512, 0, 512, 0]


def test_gemma3_has_five_windows_for_one_full_layer():
    model = read(model_type="gemma3_text", sliding_window=512, num_hidden_layers=12)
    assert windows(model) == ([512] * 5 + [0]) * 2
    assert layers(model)[0].norms == 4
    assert attention(model)[0].query_norm == "head"


def test_gpt_neo_alternates_as_attention_types_says():
    keys = {"attention_types": [[["global", "local"], 2]], "window_size": 256}
    assert windows(read(model_type="gpt_neo", **keys)) == [0, 256, 0, 256]


def test_llama4_attends_in_chunks_but_for_every_fourth_layer():
    model = read(**MOE | {"model_type": "llama4_text", "intermediate_size_mlp": 320, "attention_chunk_size": 128})
    assert [(m.chunk, m.rope) for m in attention(model)] == [(128, True)] * 3 + [(0, False)]


# Experts


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, [0, 1, 2, 3]),
        ({"model_type": "qwen3_moe", "decoder_sparse_step": 2}, [1, 3]),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [0, 2]}, [1, 3]),
        ({"model_type": "deepseek_v3", **LATENT, "first_k_dense_replace": 3}, [3]),
        ({"model_type": "deepseek_v2", **LATENT, "first_k_dense_replace": 1, "moe_layer_freq": 2}, [2]),
        ({"model_type": "glm4_moe", "first_k_dense_replace": 1, "moe_layer_freq": [0, 1, 0, 1]}, [1, 3]),
        ({"model_type": "llama4_text", "interleave_moe_layer_step": 2}, [1, 3]),
        ({"model_type": "jamba", "expert_layer_period": 2, "expert_layer_offset": 1}, [1, 3]),
        ({"model_type": "ernie4_5_moe", "moe_layer_start_index": 1, "moe_layer_end_index": 2}, [1, 2]),
    ],
)
def test_which_layers_have_experts(keys, expected):
    assert sparse(read(**MOE | keys)) == expected


def test_newer_files_name_the_sparse_layers():
    keys = MOE | {"model_type": "glm4_moe", "mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}
    assert sparse(read(**keys)) == [1, 3]


def test_shared_experts():
    qwen = layers(read(**MOE | {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 96}))[0].feed
    deepseek = layers(read(**MOE | {"model_type": "deepseek_v3", **LATENT, "n_shared_experts": 2}))[0].feed
    assert isinstance(qwen, Experts)
    assert isinstance(deepseek, Experts)
    assert (qwen.shared_width, qwen.shared_gate) == (96, True)
    assert (deepseek.shared_width, deepseek.shared_gate) == (64, False)


# Biases, norms, embeddings


@pytest.mark.parametrize(
    ("family", "qkv", "output", "feed", "norm"),
    [
        ("llama", False, False, False, False),
        ("qwen2", True, False, False, False),
        ("gpt2", True, True, True, True),
        ("opt", True, True, True, True),
        ("gptj", False, False, True, True),
        ("phi", True, True, True, True),
        ("internlm", True, True, False, False),
        ("phimoe", False, False, False, True),
    ],
)
def test_biases(family, qkv, output, feed, norm):
    layer = layers(read(**MOE | {"model_type": family}))[0]
    assert isinstance(layer.mixer, SelfAttention)
    assert layer.feed is not None
    assert (layer.mixer.bias, layer.mixer.output_bias, layer.feed.bias, layer.norm_bias) == (qkv, output, feed, norm)


@pytest.mark.parametrize(
    ("family", "norms"), [("llama", 2), ("gemma2", 4), ("glm4", 4), ("gptj", 1), ("phi", 1), ("cohere", 1)]
)
def test_norms_per_layer(family, norms):
    assert layers(read(model_type=family))[0].norms == norms


def test_olmo_norms_have_no_parameters():
    assert "layers.norm" not in parameters(read(model_type="olmo"))


@pytest.mark.parametrize(
    ("family", "tied"),
    [("llama", False), ("mistral", False), ("qwen2", False), ("gemma", True), ("gpt2", True), ("opt", True),
     ("gptj", False), ("bloom", True), ("falcon", True), ("cohere", True), ("mamba", True), ("gpt_neox", False)],
)  # fmt: skip
def test_tied_embeddings_where_the_key_is_missing(family, tied):
    assert read(model_type=family).embedding.tied is tied


def test_learned_positions():
    assert read(model_type="gpt2").embedding.learned_positions == 8192
    assert read(model_type="opt").embedding.learned_positions == 8194
    assert read(model_type="llama").embedding.learned_positions == 0


def test_a_padded_vocabulary_counts():
    assert read(padded_vocab_size=1024).embedding.vocab == 1024


def test_mtp_modules_are_noted_and_not_counted():
    plain, more = read(), read(num_nextn_predict_layers=1)
    assert total_parameters(plain) == total_parameters(more)
    assert "multi-token-prediction" in more.notes[0]


# Hybrids


def test_nemotron_layers_have_one_part_each():
    keys = {"model_type": "nemotron_h", "hybrid_override_pattern": "M-*E", "mamba_num_heads": 4, "mamba_head_dim": 16}
    found = layers(read(**MOE | keys))
    assert [type(layer.mixer) for layer in found] == [Mamba2, type(None), SelfAttention, type(None)]
    assert [type(layer.feed) for layer in found] == [type(None), FeedForward, type(None), Experts]
    assert {layer.norms for layer in found} == {1}


def test_qwen_hybrids_have_full_attention_in_every_fourth_layer():
    model = read(model_type="qwen3_5_text", linear_num_value_heads=4, linear_num_key_heads=2)
    assert [type(layer.mixer) for layer in layers(model)] == [DeltaAttention] * 3 + [SelfAttention]
    assert attention(model)[0].output_gate


def test_jamba_and_mamba():
    found = layers(read(**MOE | {"model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 2}))
    assert [type(layer.mixer) for layer in found] == [Mamba1, Mamba1, SelfAttention, Mamba1]
    alone = read(model_type="mamba", intermediate_size=128, time_step_rank="auto")
    assert layers(alone)[0].mixer == Mamba1(inner=128, state_dim=16, dt_rank=4)
    assert layers(alone)[0].feed is None


@pytest.mark.parametrize("family", ["pegasus", "m2m_100"])
def test_translators_and_summarizers_compute_their_positions(family):
    """NLLB-200 1.3B: its checkpoint holds 1,370,638,336 numbers, none of them a position's, and a norm after each stack."""
    config = {"model_type": family, "d_model": 1024, "vocab_size": 256206, "max_position_embeddings": 1024}
    for side in ("encoder", "decoder"):
        config |= {f"{side}_layers": 24, f"{side}_attention_heads": 16, f"{side}_ffn_dim": 8192}
    model = read_config(config, "config.json", "nllb")
    assert total_parameters(model) == 1_370_638_336
    assert (model.embedding.learned_positions, model.embedding.norm) == (0, False)


FALCON_H1 = {
    "model_type": "falcon_h1", "hidden_size": 3072, "num_hidden_layers": 44, "num_attention_heads": 12,
    "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 130048,
    "tie_word_embeddings": False, "mamba_d_state": 256, "mamba_n_groups": 1, "mamba_n_heads": 24, "mamba_d_head": 128,
    "mamba_d_conv": 4, "mamba_chunk_size": 128, "max_position_embeddings": 262144,
}  # fmt: skip


def test_parts_side_by_side_are_all_there():
    """A Falcon-H1 layer without its Mamba block, or a LongCat layer with one attention part of two, would be read wrongly."""
    falcon = read_config(FALCON_H1, "config.json", "falcon-h1-7b")
    mixers = [type(layer.mixer).__name__ for layer, count in falcon.main.layers for _ in range(count)]
    assert mixers == ["Mamba2", "SelfAttention"] * 44
    assert sum(layer.norms * count for layer, count in falcon.main.layers) == 2 * 44
    attention_, block, dense = 3072 * (2 * 1536 + 512), 3072 * (2 * 3072 + 2 * 256 + 24) + 3072 * 3072, 3 * 3072 * 12288
    products = 44 * (attention_ + block + dense) + 2 * 130048 * 3072
    assert total_parameters(falcon) == pytest.approx(products, rel=1e-3)  # and norms, short convolutions, decays
    with pytest.raises(RidgepointError, match="n_groups"):
        read_config(FALCON_H1 | {"mamba_n_groups": 7}, "config.json", "falcon-h1-7b")


def test_identities_among_experts_do_not_compute():
    """LongCat-Flash: 560 billion parameters, of which 27 billion are active on average (its technical report)."""
    config = {
        "model_type": "longcat_flash", "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64,
        "ffn_hidden_size": 12288, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_topk": 12, "n_routed_experts": 512, "zero_expert_num": 256,
        "expert_ffn_hidden_size": 2048, "vocab_size": 131072,
    }  # fmt: skip
    model = read_config(config, "config.json", "longcat-flash")
    assert total_parameters(model) == pytest.approx(560e9, rel=0.01)
    assert active_parameters(model, embedding=False) == pytest.approx(27e9, rel=0.01)
    assert [layer.feed.top_k for layer, _ in model.main.layers if isinstance(layer.feed, Experts)] == [8] * 28
    assert read_config(
        {k: v for k, v in config.items() if k != "num_layers"} | {"num_hidden_layers": 56}, "c", "l"
    ) == replace(model, name="l")
