"""Both roads agree (design §5): the parametric family and the capture of the same model, at sizes that were not captured.

Matrix FLOPs are equal exactly, bytes within 10 %, although transformers runs query, key and value projections apart.
"""

import pytest

import ridgepoint as rp
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.catalog import find_entry
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.tape import MATRIX_KINDS
from ridgepoint.tasks import Task
from ridgepoint.work import Op, Repeat

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ridgepoint.capture import huggingface  # noqa: E402
from ridgepoint.capture.module_facts import main_format  # noqa: E402
from ridgepoint.capture.pytorch import capture_pass  # noqa: E402

BATCH, LENGTH = 3, 1664
TASKS: dict[str, Task] = {
    "prefill": rp.Prefill(batch=BATCH, prompt=LENGTH),
    "decode": rp.Decode(batch=BATCH, context=LENGTH),
    "train": rp.Train(batch=BATCH, seq=LENGTH),
    "forward": rp.Forward(batch=BATCH, seq=LENGTH),
}


def amounts(work, times=1.0):
    """{kind: FLOPs} and bytes of a work, without what only training loops add (optimizer, loss)."""
    flop: dict[str, float] = {}
    moved = 0.0
    if isinstance(work, Op):
        rules = rules_of(work)
        return {work.kind: times * float(rules.flop(work))}, times * float(
            rules.read_bytes(work) + rules.write_bytes(work)
        )
    inner = times * float(work.count) if isinstance(work, Repeat) else times
    for child in work.children():
        more, size = amounts(child, inner)
        moved += size
        for kind, count in more.items():
            flop[kind] = flop.get(kind, 0.0) + count
    return flop, moved


def matrix(flop):
    return sum(count for kind, count in flop.items() if kind in MATRIX_KINDS)


def configuration(name, **changes):
    entry = find_entry(name)
    assert entry is not None
    values = {k: v for k, v in entry.config.items() if k != "quantization_config"} | changes
    kind = values.pop("model_type")
    return transformers.CONFIG_MAPPING[kind].from_dict(values)


def captured(config, task):
    subject = huggingface.subject(config, task)
    found = capture_pass(subject)
    kind = main_format(subject.module)
    sizes = {"batch": float(BATCH), "prompt": float(LENGTH), "context": float(LENGTH), "seq": float(LENGTH)}
    return Evaluation(found.graph, sizes, Formats(kind, kind, kind), fused=True), kind


def parametric(name, task, kind):
    plan = rp.Plan(weights=kind, acts=kind, kv=None if task in ("train", "forward") else kind, optimizer="none")
    if task == "train":
        plan = rp.Plan(weights=kind, acts=kind, optimizer="none", micro_batch=BATCH)
    return rp.estimate(name, on="h100-sxm", task=TASKS[task], plan=plan)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("llama-3.1-8b", "prefill"),
        ("llama-3.1-8b", "decode"),
        ("mixtral-8x7b", "prefill"),
        ("mixtral-8x7b", "decode"),
        ("qwen3-30b-a3b", "prefill"),
        ("qwen3-30b-a3b", "decode"),
        ("gpt-oss-20b", "prefill"),
        ("deepseek-v3", "prefill"),
        ("gpt2", "prefill"),
    ],
)
def test_matrix_flops_are_equal_and_bytes_near(name, task):
    at, kind = captured(configuration(name), task)
    mine, my_bytes = amounts(at.passes()[0])
    est = parametric(name, task, kind)
    theirs, their_bytes = amounts(est.built.device)
    assert matrix(mine) == pytest.approx(matrix(theirs), rel=1e-12)
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)
    assert "unknown" not in mine


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b"])
def test_training_has_the_same_matrix_flops(name):
    at, kind = captured(configuration(name), "train")
    forward, back = at.passes()
    mine = matrix(amounts(forward)[0]) + matrix(amounts(back)[0])
    theirs = matrix(amounts(parametric(name, "train", kind).built.device)[0])
    assert mine == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("task", ["prefill", "decode"])
def test_mamba_keeps_its_scan_one_kernel(task):
    # The short convolution is a convolution here and a stream there; projections and scan are the same.
    at, kind = captured(configuration("mamba2-2.7b"), task)
    mine, my_bytes = amounts(at.passes()[0])
    theirs, their_bytes = amounts(parametric("mamba2-2.7b", task, kind).built.device)
    assert mine["gemm"] == pytest.approx(theirs["gemm"], rel=1e-12)
    assert mine["scan"] == pytest.approx(theirs["scan"], rel=1e-12)
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)


def test_a_vision_transformer_agrees():
    config = transformers.ViTConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_labels=1000,
        architectures=["ViTForImageClassification"], dtype="bfloat16",
    )  # fmt: skip
    at, _ = captured(config, "forward")
    mine, my_bytes = amounts(at.passes()[0])
    est = rp.estimate("vit-large-patch16-224", on="h100-sxm", task=rp.Forward(batch=BATCH), plan=rp.Plan(acts="bf16"))
    theirs, their_bytes = amounts(est.built.device)
    assert matrix(mine) == pytest.approx(matrix(theirs), rel=1e-12)
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b"])
def test_the_cache_of_a_decode_step_is_the_parametric_one(name):
    # gpt-oss: every other layer sees and keeps a window only
    from ridgepoint.models.networks.captured.memory import memory

    at, kind = captured(configuration(name), "decode")
    assert memory(at).cache == parametric(name, "decode", kind).memory["kv"]
