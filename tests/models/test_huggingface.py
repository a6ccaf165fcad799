"""Reading Hugging Face configurations: families, layer patterns, formats, and errors (design §5)."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import (
    DeltaAttention,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Mixer,
    Model,
    SelfAttention,
)
from ridgepoint.models.catalog import model_entries
from ridgepoint.models.huggingface import model_types, read_config
from ridgepoint.models.parameters import active_parameters, parameters, total_parameters

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
MOE = {**LLAMA, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}


def read(**keys: Any) -> Model:
    return read_config({**LLAMA, **keys}, "config.json", "test")


def layers(model: Model) -> list[Layer]:
    return [layer for layer, count in model.main.layers for _ in range(count)]


def attention(model: Model) -> list[SelfAttention]:
    return [layer.mixer for layer in layers(model) if isinstance(layer.mixer, SelfAttention)]


def windows(model: Model) -> list[int]:
    return [mixer.window for mixer in attention(model)]


def sparse(model: Model) -> list[int]:
    return [i for i, layer in enumerate(layers(model)) if isinstance(layer.feed, Experts)]


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


# Formats


@pytest.mark.parametrize(
    ("quantization", "weights"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "awq", "bits": 8}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}, "int4"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
          "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "bitnet"}, "ternary"),
    ],
)  # fmt: skip
def test_quantized_checkpoints(quantization, weights):
    precision = read(quantization_config=quantization).precision
    assert precision.weights == weights
    assert dict(precision.exceptions) == {"embedding": "bf16", "head": "bf16", "router": "bf16"}


def test_modules_that_are_not_converted_are_exceptions():
    listed = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    named = {"quant_method": "fp8", "ignored_layers": [f"model.layers.{i}.self_attn" for i in range(4)]}
    once = {"quant_method": "fp8", "ignored_layers": ["model.layers.0.self_attn"]}
    regex = {"quant_method": "fp8", "ignore": ["re:.*self_attn.*"]}
    found = [dict(read(quantization_config=q).precision.exceptions) for q in (listed, named, once, regex)]
    assert ["attention" in exceptions for exceptions in found] == [True, True, False, True]
    assert all("experts" not in exceptions and "feed" not in exceptions for exceptions in found)


def test_an_unknown_quantization_is_noted():
    model = read(quantization_config={"quant_method": "new"})
    assert model.precision.weights == "bf16"
    assert "'new' is not known" in model.notes[0]


def test_dtype():
    assert read(torch_dtype="float32").precision.weights == "fp32"
    assert read(torch_dtype=None, dtype="torch.float16").precision.weights == "fp16"
    assert "names no dtype" in read(torch_dtype=None).notes[0]


# Finding the family


def test_the_architecture_stands_in_for_a_missing_type():
    keys = {k: v for k, v in MOE.items() if k != "model_type"}
    model = read_config({**keys, "architectures": ["Qwen3MoeForCausalLM"]}, "config.json", "test")
    assert attention(model)[0].query_norm == "head"
    assert sparse(model) == [0, 1, 2, 3]


def test_an_unknown_family_is_read_as_llama_and_says_so():
    model = read(model_type="brand_new", tie_word_embeddings=False)
    assert total_parameters(model) == total_parameters(read())
    assert "'brand_new' is not known" in model.notes[-1]


def test_an_unknown_family_without_the_keys_is_refused_with_their_names():
    with pytest.raises(RidgepointError, match=r"'brand_new' is not known.*`num_attention_heads`, `intermediate_size`"):
        read(model_type="brand_new", num_attention_heads=None, intermediate_size=None)


def test_a_wrapper_hands_its_keys_down():
    inner = {k: v for k, v in LLAMA.items() if k != "torch_dtype"}
    keys = {"model_type": "llava", "text_config": inner, "torch_dtype": "float16", "tie_word_embeddings": True}
    model = read_config({**keys, "vision_config": {"model_type": "new_tower"}}, "config.json", "test")
    assert (model.precision.weights, model.embedding.tied) == ("fp16", True)
    assert "the vision tower (`vision_config`) is not counted" in model.notes


@pytest.mark.parametrize("family", model_types())
def test_every_family_reads_a_small_model(family):
    keys = MOE | LATENT | {
        "model_type": family, "hybrid_override_pattern": "M-*E", "head_dim": 8, "num_layers": 4, "d_ff": 64,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "sliding_window": 128, "intermediate_size_mlp": 320,
    }  # fmt: skip
    if family == "dbrx":
        keys |= {"ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2}}
    if family == "nemotron_h":
        keys |= {"mamba_num_heads": 4, "mamba_head_dim": 16}
    model = read_config(keys, "config.json", family)
    assert total_parameters(model) > 1000
    assert not any("is not known" in note for note in model.notes)


# Errors


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"num_attention_heads": -3},
            "config.json: `num_attention_heads` must be a whole number of at least 1, not -3",
        ),
        ({"hidden_size": "4096"}, "config.json: `hidden_size` must be a whole number of at least 1, not '4096'"),
        ({"hidden_size": 64.5}, "`hidden_size` must be a whole number of at least 1, not 64.5"),
        ({"hidden_size": True}, "`hidden_size` must be a whole number of at least 1, not true"),
        ({"hidden_size": math.nan}, "`hidden_size` must be a whole number of at least 1, not nan"),
        ({"hidden_size": 10**7}, "`hidden_size` must be at most 1,000,000, not 10000000"),
        (
            {"num_hidden_layers": 10**5000},
            "`num_hidden_layers` must be at most 10,000, not a number of more than 18 digits",
        ),
        ({"vocab_size": None}, "`vocab_size` is missing; it must be a whole number of at least 1"),
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads`, and 3 does not divide 8",
        ),
        ({"hidden_size": 63}, "`hidden_size` must be a multiple of `num_attention_heads`, and 63 is not one of 8"),
        ({"tie_word_embeddings": "yes"}, "`tie_word_embeddings` must be true or false, not 'yes'"),
        ({"torch_dtype": "bf61"}, "`torch_dtype` must be a number format, not 'bf61'"),
        ({"model_type": ["llama"]}, "`model_type` must be a text, not a list"),
        ({"model_type": "gemma2", "layer_types": ["full_attention"]}, "`layer_types` must name 4 layers"),
        ({"model_type": "gemma2", "layer_types": ["full", 3, 4, 5]}, "`layer_types` must be a list of"),
        (
            {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4},
            "must be at most the number of experts",
        ),
        ({"model_type": "deepseek_v3"}, "`kv_lora_rank` is missing"),
        ({"model_type": "zamba2"}, "the family 'zamba2' cannot be described: its layers share their weights"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 5}},
            "`quantization_config.bits` must be 1, 2, 3, 4 or 8",
        ),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"}, "`hybrid_override_pattern` must be a text of"),
    ],
)
def test_errors_name_file_key_and_expectation(keys, message):
    with pytest.raises(RidgepointError) as caught:
        read(**keys)
    assert caught.value.kind == "bad_config"
    assert message in caught.value.message
    assert caught.value.message.startswith("config.json: ")


def test_a_key_inside_a_wrapper_is_named_with_its_path():
    with pytest.raises(RidgepointError, match=r"`text_config\.hidden_size` must be"):
        read_config({"model_type": "llava", "text_config": {**LLAMA, "hidden_size": 0}}, "config.json", "test")


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(RidgepointError, match="must hold a JSON object"):
        read_config(value, "config.json", "test")


# Real configurations


def real(shared: Path, name: str) -> Model:
    return read_config(json.loads((shared / "model_configs" / f"{name}.json").read_text()), f"{name}.json", name)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("llama-3.1-8b", 8.030e9, 8.030e9),
        ("llama-3.1-70b", 70.554e9, 70.554e9),
        ("llama-3.1-405b", 405.853e9, 405.853e9),
        ("mixtral-8x7b", 46.703e9, 12.879e9),
        ("deepseek-v3", 671.026e9, 37.552e9),
        ("deepseek-r1", 671.026e9, 37.552e9),
        ("gpt-oss-120b", 116.829e9, 5.711e9),
        ("gpt-oss-20b", 20.915e9, 4.187e9),
        ("qwen3-235b-a22b", 235.094e9, 22.191e9),
        ("qwen3-30b-a3b", 30.532e9, 3.353e9),
        ("qwen3-8b", 8.191e9, 8.191e9),
        ("opt-1.3b", 1.3158e9, 1.3158e9),
        ("gpt2-large", 774.03e6, 774.03e6),
        ("nemotron-3-nano", 31.578e9, 3.582e9),
        ("llama-4-maverick", 400.71e9, 17.185e9),
        ("minimax-m2.5", 228.69e9, 11.03e9),
    ],
)
def test_counts_of_real_models(shared, name, total, active):
    model = real(shared, name)
    assert total_parameters(model) == pytest.approx(total, rel=1e-3)
    assert active_parameters(model) == pytest.approx(active, rel=1e-3)


def test_every_shared_config_reads(shared):
    paths = sorted((shared / "model_configs").glob("*.json"))
    assert paths
    for path in paths:
        model = real(shared, path.stem)
        assert not any("is not known" in note for note in model.notes), path.name


def test_gpt_oss_is_mxfp4_in_its_experts_alone(shared):
    model = real(shared, "gpt-oss-120b")
    assert model.precision.weights == "mxfp4"
    assert {part for part, _ in model.precision.exceptions} == {"attention", "router", "embedding", "head"}
    assert Counter(windows(model)) == {128: 18, 0: 18}
    assert attention(model)[0].sinks


def test_latent_attention_of_deepseek(shared):
    mixer = layers(real(shared, "deepseek-v3"))[0].mixer
    assert mixer == LatentAttention(128, 1536, 512, 128, 64, 128)
    glm = layers(real(shared, "glm-5"))[0].mixer
    assert isinstance(glm, LatentAttention)
    assert (glm.index_heads, glm.index_dim, glm.index_topk) == (32, 128, 2048)


def test_kimi_leaves_all_but_the_experts_in_bf16(shared):
    model = real(shared, "kimi-k2.5")
    assert model.precision.weights == "int4"
    assert "experts" not in dict(model.precision.exceptions)
    assert {"attention", "feed"} <= set(dict(model.precision.exceptions))


def test_hybrid_layers_of_real_models(shared):
    def kinds(name: str) -> Counter[type[Mixer] | None]:
        return Counter(type(layer.mixer) if layer.mixer else None for layer in layers(real(shared, name)))

    assert kinds("nemotron-h-56b-base-8k") == {Mamba2: 54, None: 54, SelfAttention: 10}
    assert kinds("qwen3.5-397b-a17b") == {DeltaAttention: 45, SelfAttention: 15}
    assert kinds("kimi-k3") == {DeltaAttention: 69, LatentAttention: 24}


# Anything at all gives a model or a sentence

ENTRIES = [entry.config for entry in model_entries()]
HUGE = st.sampled_from([0, -1, 10**9, 10**30, 10**400, 1.5, math.nan, math.inf, -math.inf, 1e308, 2.0**70])
RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | HUGE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def broken_configs(draw: st.DrawFn) -> Any:
    """A real configuration with some keys dropped, replaced, or swapped with those of another."""
    config = json.loads(json.dumps(draw(st.sampled_from(ENTRIES))))
    for _ in range(draw(st.integers(1, 4))):
        objects = [config, *(v for v in config.values() if isinstance(v, dict) and v)]
        target = draw(st.sampled_from(objects))
        key = draw(st.sampled_from(sorted(target)) if target else st.just("hidden_size"))
        other = json.loads(json.dumps(draw(st.sampled_from(ENTRIES))))
        choice = draw(st.integers(0, 3))
        if choice == 0:
            target.pop(key, None)
        elif choice == 1:
            target[key] = draw(RUBBISH)
        elif choice == 2:
            target[key] = draw(st.integers(-2, 200))
        else:
            target.update({k: v for k, v in other.items() if draw(st.booleans())})
    return config


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(broken_configs())
def test_a_mutated_config_gives_a_model_or_a_sentence(config):
    check(config)


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(sorted({*LLAMA, *MOE, *LATENT, "text_config", "vision_config"})), RUBBISH),
    st.data(),
)
def test_rubbish_gives_a_model_or_a_sentence(config, data):
    check({"model_type": data.draw(st.sampled_from(model_types())), **config})
    check(data.draw(RUBBISH))


def check(config: Any) -> None:
    model, message = None, "config.json: "
    try:
        model = read_config(config, "config.json", "test")
    except RidgepointError as error:
        message = error.message
    assert message.startswith("config.json: ")
    assert len(message) < 1000
    if model is not None:
        assert math.isfinite(total_parameters(model))
        assert 0 < active_parameters(model) <= total_parameters(model)
