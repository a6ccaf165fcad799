"""The schema of measured tables: which columns a table has, what each may hold, what a row of each op must state.

It is the schema of the measurements README: ``kernels`` (one kernel per row), ``runs`` (one metric of a whole run per
row) and ``memory`` (one memory figure per row).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

TEXT, POSITIVE, NATURAL, FLAG, JSON = "text", "a number above 0", "a number from 0", "0 or 1", "a JSON object"


@dataclass(frozen=True)
class Schema:
    """Columns of one kind of table: name → what a cell may hold; ``required`` must be in the header."""

    kind: str
    columns: dict[str, str]
    required: tuple[str, ...]
    choices: dict[str, frozenset[str]]
    """Columns whose value must be one of a list."""
    needs: dict[str, tuple[str, ...]]
    """Value of ``op`` or ``task`` → columns that such a row must fill."""
    selector: str
    measured: str
    """The column that holds the measurement: every row fills it."""
    units: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Metric → its unit, and the pattern that a stated unit begins with."""


def _columns(text: str = "", positive: str = "", natural: str = "", flag: str = "") -> dict[str, str]:
    kinds = ((text, TEXT), (positive, POSITIVE), (natural, NATURAL), (flag, FLAG))
    return {name: kind for names, kind in kinds for name in names.split()} | {"extra": JSON}


_GEMM = ("m", "n", "k")
_ROWS = ("m", "n")
_ATTENTION = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")
_MESSAGE = ("bytes", "ranks")
_OPS: dict[str, tuple[str, ...]] = {
    "gemm": _GEMM,
    "batched_gemm": (*_GEMM, "batch"),
    "grouped_gemm": (*_GEMM, "experts", "top_k"),
    "attention": _ATTENTION,
    "mla_attention": _ATTENTION,
    "conv2d": ("batch",),
    "softmax": _ROWS,
    "norm": _ROWS,
    "elementwise": _ROWS,
    "quantize": _ROWS,
    "copy": _ROWS,
    "scan": ("batch", "heads", "head_dim", "q_len"),
    "layer": ("batch", "heads", "q_len", "kv_len"),
    "all_reduce": _MESSAGE,
    "all_gather": _MESSAGE,
    "reduce_scatter": _MESSAGE,
    "all_to_all": _MESSAGE,
    "send_recv": _MESSAGE,
}

KERNELS = Schema(
    kind="kernels",
    columns=_columns(
        text="source machine framework op dtype weight_dtype kv_dtype",
        positive="m n k batch heads kv_heads head_dim q_len kv_len experts top_k bytes ranks nodes time_us power_w",
        natural="window",
        flag="causal",
    ),
    required=("machine", "op", "dtype", "time_us"),
    choices={"op": frozenset(_OPS)},
    needs=_OPS,
    selector="op",
    measured="time_us",
)

_RUN_COLUMNS = _columns(
    text="source machine framework model task precision kv_dtype recompute mode metric unit",
    positive="devices nodes batch prompt concurrency image_px tp pp dp ep cp vp micro_batch global_batch",
    natural="output zero_stage value",
)
_MILLISECONDS = ("ms", r"(ms|milliseconds?)\b")
_TOKENS_PER_S = ("tok/s", r"((output|input|total) )?tok(en)?s?(/s| per second)\b")
_WATTS, _JOULES = ("W", r"(W|watts?)\b"), ("J", r"(J|joules?)\b")
_UNITS = MappingProxyType(
    {
        "time_s": ("s", r"(s|seconds?)\b"),
        **dict.fromkeys(("latency_ms", "ttft_ms", "tpot_ms"), _MILLISECONDS),
        **dict.fromkeys(("throughput_tok_s", "throughput_tok_s_per_device"), _TOKENS_PER_S),
        "throughput_samples_s": ("1/s", r"(1|samples?|images?|sequences?)(/s| per second)\b"),
        "mfu": ("fraction", r"(fraction|1)$"),
        "tflops_per_device": ("TFLOP/s", r"TFLOP"),
        **dict.fromkeys(("power_w", "power_peak_w"), _WATTS),
        **dict.fromkeys(("energy_j_per_token", "energy_j_per_sample"), _JOULES),
        "peak_memory_gb": ("GB", r"GB\b"),
        "kv_tokens": ("tokens", r"tok"),
    }
)

_TASKS = frozenset(("forward", "prefill", "decode", "generate", "serve", "train_step", "finetune_step", "train_total"))
_RUN_METRICS = frozenset(
    (
        *("time_s", "latency_ms", "ttft_ms", "tpot_ms", "throughput_tok_s", "throughput_tok_s_per_device"),
        *("throughput_samples_s", "mfu", "tflops_per_device", "power_w", "power_peak_w"),
        *("energy_j_per_token", "energy_j_per_sample"),
    )
)

RUNS = Schema(
    kind="runs",
    columns=_RUN_COLUMNS,
    required=("machine", "model", "task", "metric", "value"),
    choices={
        "task": _TASKS,
        "metric": _RUN_METRICS,
        "recompute": frozenset(("none", "selective", "full")),
    },
    needs={},
    selector="task",
    measured="value",
    units=_UNITS,
)

MEMORY = Schema(
    kind="memory",
    columns=_RUN_COLUMNS,
    required=("machine", "model", "task", "metric", "value"),
    choices={"task": _TASKS, "metric": frozenset(("peak_memory_gb", "fits", "kv_tokens"))},
    needs={},
    selector="task",
    measured="value",
    units=_UNITS,
)

SCHEMAS = {schema.kind: schema for schema in (KERNELS, RUNS, MEMORY)}
