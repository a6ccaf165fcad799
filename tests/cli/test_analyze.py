"""`ridgepoint analyze`: the JSON contract, every option, the page for people (design §10)."""

import math
from typing import Any

import pytest

from tests.cli.conftest import Run

LLAMA = ("analyze", "llama-3.1-8b", "--on")
DECODE = (*LLAMA, "h100-sxm", "--task", "decode", "--batch", "32", "--context", "8k")

KEYS = {
    "model", "machine", "task", "plan", "time_s", "bound_s", "interval_s", "headroom", "throughput", "ttft_s", "tpot_s",
    "bottleneck", "shares", "limits", "memory", "energy_j", "cost_usd", "ops", "assumptions", "warnings", "citations",
}  # fmt: skip


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


SCENARIOS = [
    DECODE[1:],
    ("llama-3.1-8b", "--on", "h100-sxm", "--task", "prefill", "--prompt", "2k"),
    ("llama-3.1-8b", "--on", "h100-sxm"),
    ("llama-3.1-8b", "--on", "8xh100-sxm", "--task", "train", "--batch", "8", "--seq", "2k", "--zero", "3"),
    ("deepseek-v3", "--on", "8xh200-sxm", "--task", "decode", "--batch", "64", "--context", "8k"),
    ("bert-large", "--on", "t4"),
    ("qwen3.5-27b", "--on", "h100-sxm", "--task", "prefill"),
    ("llama-3.1-8b", "--on", "epyc-9654", "--weights", "int4"),
    ("llama-3.1-70b", "--on", "t4", "--task", "decode"),
    ("resnet50", "--on", "a100-sxm-80gb", "--batch", "32"),
]


# design §10
@pytest.mark.parametrize("arguments", SCENARIOS, ids=lambda a: " ".join(a))
def test_every_kind_of_scenario_gives_the_documented_keys_with_finite_numbers(
    run: Run, arguments: tuple[str, ...]
) -> None:
    answer = run("analyze", *arguments, "--json")
    assert answer.code == 0, answer
    doc = answer.document
    assert doc.keys() >= KEYS
    assert all(math.isfinite(n) for n in numbers(doc))
    assert sum(doc["shares"].values()) == pytest.approx(1.0)
    assert doc["bottleneck"] == max(doc["shares"], key=doc["shares"].get)
    assert doc["limits"].keys() == doc["shares"].keys()
    assert min(doc["limits"].values()) >= 1.0 - 1e-9
    assert 0.0 < doc["bound_s"] <= doc["time_s"]
    assert doc["interval_s"][0] <= doc["time_s"] <= doc["interval_s"][1]
    assert doc["headroom"] == pytest.approx(doc["time_s"] / doc["bound_s"])


# design §10
def test_ops_say_what_takes_the_time_and_what_binds_it(run: Run) -> None:
    doc = run(*DECODE, "--json").document
    for op in doc["ops"]:
        assert op.keys() >= {"name", "kind", "count", "time_s", "flop", "bytes", "bound_by"}
        assert op["time_s"] > 0.0
        assert op["bound_by"] is not None
    assert sum(op["critical_s"] for op in doc["ops"]) == pytest.approx(doc["time_s"], rel=1e-6)


# design §10
def test_memory_is_in_gb_of_1e9_bytes_and_its_entries_sum_to_the_total(run: Run) -> None:
    memory = run(*DECODE, "--json").document["memory"]
    entries = [v for k, v in memory.items() if k.endswith("_gb") and k not in ("total_gb", "capacity_gb", "usable_gb")]
    assert sum(entries) == pytest.approx(memory["total_gb"])
    assert memory["weights_gb"] == pytest.approx(16.06, abs=0.01)
    assert memory["kv_gb"] == pytest.approx(32 * 8192 * 131072 / 1e9)
    assert memory["capacity_gb"] == 80
    assert memory["fits"] is True


# design §3
def test_the_largest_batch_and_context_that_fit_do_fit_and_the_next_ones_do_not(run: Run) -> None:
    most = run(*DECODE, "--json").document["memory"]
    for name in ("batch", "context"):
        for more, fits in ((0, True), (1, False)):
            doc = run(*DECODE, f"--{name}", str(most[f"max_{name}"] + more), "--json").document
            assert doc["memory"]["fits"] is fits


# design §10
def test_what_does_not_fit_still_gets_its_estimate(run: Run) -> None:
    answer = run(*LLAMA, "t4", "--task", "decode", "--batch", "64", "--context", "8k", "--json")
    assert answer.code == 0
    assert answer.document["memory"]["fits"] is False
    assert any("does not fit" in warning for warning in answer.document["warnings"])


# design §10
def test_latencies_are_null_where_they_do_not_apply(run: Run) -> None:
    generate = run(*LLAMA, "h100-sxm", "--json").document
    assert generate["time_s"] == pytest.approx(generate["ttft_s"] + 127 * generate["tpot_s"], rel=1e-6)
    assert run(*LLAMA, "h100-sxm", "--task", "prefill", "--json").document["tpot_s"] is None
    assert run(*DECODE, "--json").document["ttft_s"] is None
    assert run("analyze", "resnet50", "--on", "t4", "--json").document["throughput"]["tokens_per_s"] is None


# design §10
@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (("--weights", "fp8"), "weights", "fp8"),
        (("--acts", "fp8"), "acts", "fp8"),
        (("--kv", "float8"), "kv", "fp8"),
        (("--tp", "4"), "tp", 4),
        (("--pp", "2"), "pp", 2),
        (("--dp", "2", "--tp", "4"), "dp", 2),
        (("--cp", "2", "--tp", "4"), "cp", 2),
        (("--no-fused-attention",), "fused_attention", False),
        (("--no-graphs",), "graph_capture", False),
        (("--mode", "eager"), "compiled", False),
        (("--memory-fraction", "0.5"), "memory_fraction", 0.5),
    ],
    ids=str,
)
def test_an_option_reaches_the_plan(run: Run, options: tuple[str, ...], key: str, value: object) -> None:
    doc = run(*LLAMA, "8xh100-sxm", "--task", "decode", "--batch", "16", *options, "--json").document
    assert doc["plan"][key] == value


# design §10
@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (("--zero", "3"), "zero_stage", 3),
        (("--recompute", "full"), "recompute", "full"),
        (("--optimizer", "sgd"), "optimizer", "sgd"),
        (("--micro-batch", "2"), "micro_batch", 2),
        (("--schedule", "gpipe", "--pp", "2"), "schedule", "gpipe"),
        (("--schedule", "interleaved", "--pp", "2", "--chunks", "2"), "chunks", 2),
    ],
    ids=str,
)
def test_a_training_option_reaches_the_plan(run: Run, options: tuple[str, ...], key: str, value: object) -> None:
    doc = run(*LLAMA, "8xh100-sxm", "--task", "train", "--batch", "32", *options, "--json").document
    assert doc["plan"][key] == value


# design §10
def test_expert_parallelism_reaches_the_plan(run: Run) -> None:
    doc = run("analyze", "mixtral-8x7b", "--on", "8xh100-sxm", "--task", "decode", "--ep", "8", "--json").document
    assert doc["plan"]["ep"] == 8


# design §4
def test_bound_shows_the_physical_limit_itself(run: Run) -> None:
    expected = run(*DECODE, "--json").document
    bound = run(*DECODE, "--bound", "--json").document
    assert bound["mode"] == "bound"
    assert bound["time_s"] == bound["bound_s"] == pytest.approx(expected["bound_s"])
    assert bound["headroom"] == 1
    assert bound["interval_s"] == [bound["time_s"], bound["time_s"]]


# design §10
@pytest.mark.parametrize(
    ("arguments", "refused", "instead"),
    [
        (("--task", "prefill", "--context", "4k"), "--context", "--prompt"),
        (("--task", "decode", "--prompt", "4k"), "--prompt", "--context"),
        (("--context", "4k"), "--context", "--task decode"),
        (("--task", "decode", "--zero", "1"), "--zero", "--task train"),
        (("--task", "train", "--kv", "fp8"), "--kv", "--task prefill"),
        (("--task", "decode", "--steps", "3"), "--steps", "--task sample"),
    ],
    ids=str,
)
def test_an_option_of_another_task_is_refused(run: Run, arguments: tuple[str, ...], refused: str, instead: str) -> None:
    error = run(*LLAMA, "h100-sxm", *arguments, "--json").error
    assert error["kind"] == "bad_option"
    assert refused in error["message"]
    assert instead in error["hint"]


# design §10
def test_the_page_says_what_a_reader_needs(run: Run) -> None:
    answer = run(*DECODE)
    assert answer.code == 0
    assert answer.err == ""
    for words in (
        "llama-3.1-8b on h100-sxm", "90 % interval", "Physical limit", "headroom", "tokens/s", "Bottleneck:", "HBM3 bandwidth",
        "if infinite", "KV cache", "at most batch", "context", "of limit", "waits for", "Assumptions", "per million tokens",
    ):  # fmt: skip
        assert words in answer.out
    assert "all reduce" not in answer.out, "components that take no time are not shown"


# design §7
def test_citations_are_printed_when_asked_for(run: Run) -> None:
    doc = run(*DECODE, "--json").document
    assert any("gemm" in line for line in doc["citations"])
    assert "Citations" not in run(*DECODE).out
    page = " ".join(run(*DECODE, "--citations").out.split())
    assert all(line.split(":")[0] in page for line in doc["citations"])


# design §10
def test_a_model_may_be_a_file_or_a_folder(run: Run, tmp_path: Any) -> None:
    config = (
        '{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "vocab_size": 32000,'
        ' "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048, "torch_dtype": "bfloat16"}'
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(config)
    file = run("analyze", "mine/config.json", "--on", "t4", "--json").document
    folder = run("analyze", "mine", "--on", "t4", "--json").document
    assert file == folder
    assert file["model"] == "mine"
