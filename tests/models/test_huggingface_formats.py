"""Reading Hugging Face configurations: number formats, the family, and errors (design §5, §10)."""

import math

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models.huggingface import model_types, read_config
from ridgepoint.models.parameters import total_parameters
from tests.models.configs import LATENT, LLAMA, MOE, attention, read, sparse

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


def test_what_is_not_quantized_keeps_an_assumed_format_and_says_so():
    model = read(torch_dtype=None, quantization_config={"quant_method": "mxfp4"})
    assert model.notes == ("the configuration names no dtype: weights that are not quantized counted as bf16",)


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


def test_the_wrapper_decides_whether_the_head_is_tied():
    inner = {**LLAMA, "tie_word_embeddings": True}
    keys = {"model_type": "llava", "text_config": inner}
    assert read_config(keys, "config.json", "test").embedding.tied
    assert not read_config({**keys, "tie_word_embeddings": False}, "config.json", "test").embedding.tied


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
    if family == "longcat_flash":
        keys |= {"n_routed_experts": 4, "moe_topk": 2, "expert_ffn_hidden_size": 64, "ffn_hidden_size": 64}
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
