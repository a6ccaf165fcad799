"""Number formats: what a value takes in memory, and which arithmetic it runs in.

A format is data. ``bits`` counts what memory really holds per value, scales included; ``math`` names the arithmetic rate
that a machine file lists for it; ``wider`` is the format that a machine without it uses instead (design §4).
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgepoint.errors import unknown_name


@dataclass(frozen=True)
class Format:
    """One way to store and to compute with a number."""

    name: str
    bits: float
    """Stored bits per value, block scales included."""
    math: str
    """Key of the arithmetic rate in a machine file."""
    wider: tuple[str, ...]
    """What a machine that lacks this arithmetic computes in: the first of these arithmetics that it has."""
    note: str

    @property
    def bytes(self) -> float:
        """Stored bytes per value."""
        return self.bits / 8.0


_FULL = ("tf32", "fp32", "fp64")
_FROM_FP8 = ("bf16", "fp16", *_FULL)
_FROM_FP6 = ("fp8", *_FROM_FP8)
_FROM_FP4 = ("fp6", *_FROM_FP6)
_FROM_INT8 = ("fp16", "bf16", *_FULL)
_FROM_INT4 = ("int8", *_FROM_INT8)
_FROM_INT2 = ("int4", *_FROM_INT4)
_TABLE = [
    Format("fp64", 64, "fp64", (), "IEEE double"),
    Format("fp32", 32, "fp32", ("fp64",), "IEEE single"),
    Format("tf32", 32, "tf32", ("fp32", "fp64"), "stored as fp32, multiplied with 10 mantissa bits"),
    Format("bf16", 16, "bf16", ("fp16", *_FULL), "8 exponent bits"),
    Format("fp16", 16, "fp16", ("bf16", *_FULL), "IEEE half"),
    Format("fp8", 8, "fp8", _FROM_FP8, "E4M3 or E5M2 with one scale per tensor or channel"),
    Format("fp8_block", 8 + 32 / (128 * 128), "fp8", _FROM_FP8, "E4M3, fp32 scale per 128×128 weights (DeepSeek-V3)"),
    Format("mxfp8", 8 + 8 / 32, "fp8", _FROM_FP8, "E4M3, 8-bit scale per 32 (OCP MX)"),
    Format("mxfp6", 6 + 8 / 32, "fp6", _FROM_FP6, "E3M2 or E2M3, 8-bit scale per 32 (OCP MX)"),
    Format("mxfp4", 4 + 8 / 32, "fp4", _FROM_FP4, "E2M1, 8-bit scale per 32 (OCP MX)"),
    Format("nvfp4", 4 + 8 / 16, "fp4", _FROM_FP4, "E2M1, E4M3 scale per 16 (NVIDIA)"),
    Format("fp4", 4, "fp4", _FROM_FP4, "E2M1 with one scale per channel"),
    Format("int8", 8, "int8", _FROM_INT8, "8-bit integer with one scale per channel"),
    Format("int7", 7 + 16 / 128, "int7", ("int8", *_FROM_INT8), "7-bit integer, fp16 scale per 128"),
    Format("int6", 6 + 16 / 128, "int6", ("int8", *_FROM_INT8), "6-bit integer, fp16 scale per 128"),
    Format("int5", 5 + 16 / 128, "int5", ("int8", *_FROM_INT8), "5-bit integer, fp16 scale per 128"),
    Format("int4", 4 + 16 / 128, "int4", _FROM_INT4, "4-bit integer, fp16 scale per 128 (GPTQ, AWQ)"),
    Format(
        "nf4",
        4 + 8 / 64 + 32 / (64 * 256),
        "int4",
        _FROM_INT4,
        "normal-float 4, double-quantized scales per 64 (QLoRA)",
    ),
    Format("int3", 3 + 16 / 128, "int3", _FROM_INT2, "3-bit integer, fp16 scale per 128"),
    Format("int2", 2 + 16 / 128, "int2", _FROM_INT2, "2-bit integer, fp16 scale per 128"),
    Format("int1", 1 + 16 / 128, "int1", _FROM_INT2, "1-bit, fp16 scale per 128"),
    Format("q8_0", 8 + 16 / 32, "int8", _FROM_INT8, "llama.cpp: 8-bit integer, fp16 scale per 32"),
    Format("q6_k", 210 * 8 / 256, "int6", ("int8", *_FROM_INT8), "llama.cpp: 210 bytes per 256 weights"),
    Format("q5_k", 176 * 8 / 256, "int5", ("int8", *_FROM_INT8), "llama.cpp: 176 bytes per 256 weights"),
    Format("q4_k", 144 * 8 / 256, "int4", _FROM_INT4, "llama.cpp: 144 bytes per 256 weights"),
    # Half of the value and down projections are in q6_k: 0.145 of the weights of a layer of Llama 3.1 8B.
    Format("q5_k_m", 5.5 + 0.145 * 1.0625, "int5", ("int8", *_FROM_INT8), "llama.cpp: q5_k, in part q6_k"),
    Format("q4_k_m", 4.5 + 0.145 * 2.0625, "int4", _FROM_INT4, "llama.cpp: q4_k, in part q6_k"),
    Format("q4_0", 4 + 16 / 32, "int4", _FROM_INT4, "llama.cpp: 4-bit integer, fp16 scale per 32"),
    Format("q3_k", 110 * 8 / 256, "int3", _FROM_INT2, "llama.cpp: 110 bytes per 256 weights"),
    Format("q2_k", 84 * 8 / 256, "int2", _FROM_INT2, "llama.cpp: 84 bytes per 256 weights"),
    Format("ternary", 1.58, "int2", _FROM_INT4, "values −1, 0, 1 (BitNet b1.58), packed"),
]
FORMATS: dict[str, Format] = {f.name: f for f in _TABLE}
_ALIASES = {
    "float64": "fp64", "double": "fp64", "float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16",
    "bfloat16": "bf16", "e4m3": "fp8", "e5m2": "fp8", "float8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8",
    "f64": "fp64", "f32": "fp32", "single": "fp32", "f16": "fp16",
    "float8_e4m3": "fp8", "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "fp8_e4m3fn": "fp8", "e4m3fn": "fp8",
    "fp8_static": "fp8", "fp8_dynamic": "fp8", "fp8_per_tensor": "fp8", "fp8_per_channel": "fp8",
    "fp8_blockwise": "fp8_block", "i8": "int8", "s8": "int8", "i4": "int4", "s4": "int4",
    "w4": "int4", "w8": "int8", "awq": "int4", "gptq": "int4", "q4_k_s": "q4_k", "q5_k_s": "q5_k",
}  # fmt: skip


def find_format(name: str) -> Format:
    """The format of that name or alias; an unknown one is refused with the nearest names.

    >>> find_format("bfloat16").bytes
    2.0
    >>> find_format("int4").bits
    4.125
    """
    key = name.strip().lower().replace("-", "_")
    key = _ALIASES.get(key, key)
    if key not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[key]


def multiply_format(acts: str, weights: str) -> str:
    """The format that a product of the two is computed in: the wider of both (weight-only quantization widens weights).

    >>> multiply_format("bf16", "int4"), multiply_format("fp8", "fp8"), multiply_format("fp8", "nvfp4")
    ('bf16', 'fp8', 'fp8')
    >>> multiply_format("int8", "int4")
    'int8'
    """
    a, w = FORMATS[acts], FORMATS[weights]
    return acts if round(a.bits) >= round(w.bits) else weights
