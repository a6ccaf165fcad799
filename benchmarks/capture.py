"""How long captures take, each with its checks at several sizes, and the most memory that one needs (targets: 3 s and 10 s).

Building the model is part of it, importing PyTorch is not.
"""

import resource
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.registry import benchmark

_CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "whisper": (
        "WhisperConfig",
        {
            "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
            "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "num_mel_bins": 128,
            "vocab_size": 51866, "architectures": ["WhisperForConditionalGeneration"],
        },
        "forward",
    ),
    "vit-l": (
        "ViTConfig",
        {
            "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
            "architectures": ["ViTForImageClassification"],
        },
        "train",
    ),
}  # fmt: skip


def config_of(name: str) -> Any:
    """The configuration of a model in the catalogue, as transformers reads it."""
    import transformers

    from ridgepoint.models.catalog import find_entry

    entry = find_entry(name)
    assert entry is not None
    values = {key: value for key, value in entry.config.items() if key != "quantization_config"}
    return transformers.CONFIG_MAPPING[values.pop("model_type")].from_dict(values)


def seconds(config: Any, task: str) -> float:
    """Building and capturing one model."""
    from ridgepoint.capture import huggingface
    from ridgepoint.capture.pytorch import capture_pass

    start = time.perf_counter()
    capture_pass(huggingface.subject(config, task))
    return time.perf_counter() - start


def diffusion(name: str) -> float:
    """Building and capturing a diffusion network of diffusers."""
    from ridgepoint.capture.pytorch import capture_pass

    start = time.perf_counter()
    capture_pass(diffusion_subject(name))
    return time.perf_counter() - start


def diffusion_subject(name: str) -> Any:
    """DiT-XL/2 (``dit``) or SDXL's U-Net (``sdxl``), with their inputs."""
    import torch

    from ridgepoint.capture.pytorch import Subject

    def empty(*shape: int, kind: Any = None) -> Any:
        return torch.empty(*shape, device="meta", dtype=kind)

    diffusers: Any = import_module("diffusers")
    with torch.device("meta"):
        if name == "dit":
            module = diffusers.DiTTransformer2DModel(
                num_layers=28, norm_type="ada_norm_zero", norm_elementwise_affine=False
            )
        else:
            module = diffusers.UNet2DConditionModel(
                sample_size=128, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(320, 640, 1280),
                cross_attention_dim=2048, transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20),
                use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            )  # fmt: skip

    def inputs(at: Any) -> Any:
        b = at["batch"]
        whole = {"timestep": empty(b, kind=torch.int64)}
        if name == "dit":
            return whole | {"hidden_states": empty(b, 4, 32, 32), "class_labels": empty(b, kind=torch.int64)}, []
        added = {"text_embeds": empty(b, 1280), "time_ids": empty(b, 6)}
        return whole | {
            "sample": empty(b, 4, 128, 128),
            "encoder_hidden_states": empty(b, 77, 2048),
            "added_cond_kwargs": added,
        }, []

    return Subject(module, inputs, {"batch": 1.0})


@benchmark(
    "capture.llama-prefill", measures="Llama-3.1-8B, prefill, one symbolic recording, two checks", unit="s", target=3.0
)
def llama() -> float:
    return seconds(config_of("llama-3.1-8b"), "prefill")


@benchmark("capture.llama-train", measures="Llama-3.1-8B, forward and backward", unit="s", target=10.0)
def llama_train() -> float:
    return seconds(config_of("llama-3.1-8b"), "train")


@benchmark("capture.mixtral-train", measures="Mixtral-8x7B, forward and backward", unit="s", target=10.0)
def mixtral() -> float:
    return seconds(config_of("mixtral-8x7b"), "train")


@benchmark("capture.deepseek-prefill", measures="DeepSeek-V3, all layers, prefill", unit="s", target=10.0)
def deepseek() -> float:
    return seconds(config_of("deepseek-v3"), "prefill")


@benchmark("capture.qwen3-decode", measures="Qwen3-30B-A3B, a decode step", unit="s", target=10.0)
def qwen() -> float:
    return seconds(config_of("qwen3-30b-a3b"), "decode")


@benchmark("capture.mamba2-prefill", measures="Mamba-2 2.7B, prefill", unit="s", target=10.0)
def mamba() -> float:
    return seconds(config_of("mamba2-2.7b"), "prefill")


def _named(name: str) -> float:
    import transformers

    kind, values, task = _CONFIGS[name]
    return seconds(getattr(transformers, kind)(**values), task)


@benchmark("capture.whisper", measures="Whisper large, encoder and decoder", unit="s", target=10.0)
def whisper() -> float:
    return _named("whisper")


@benchmark("capture.vit-train", measures="ViT-L/16, forward and backward", unit="s", target=10.0)
def vit() -> float:
    return _named("vit-l")


@benchmark("capture.dit", measures="DiT-XL/2 (needs diffusers)", unit="s", target=10.0)
def dit() -> float:
    return diffusion("dit")


@benchmark("capture.sdxl-unet", measures="SDXL's U-Net (needs diffusers)", unit="s", target=10.0)
def sdxl() -> float:
    return diffusion("sdxl")


@benchmark(
    "capture.memory", measures="most memory of a process that captures Llama-3.1-8B training", unit="GB", target=2.0
)
def memory() -> float:
    subprocess.run([sys.executable, "-m", "benchmarks", "capture.llama-train"], check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
