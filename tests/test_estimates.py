"""Estimates: one scenario or a sweep, the same answer (design §3, issue 2)."""

import math
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint import estimates
from ridgepoint.kernels import KERNELS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.tasks import TASKS, Task

RNG = np.random.default_rng(7)
SCALARS = (
    "time_s",
    "bound_s",
    "headroom",
    "tokens_per_s",
    "samples_per_s",
    "power_w",
    "energy_j",
    "cost_usd",
    "devices",
)


def agree(whole: rp.Estimate, i: int, alone: rp.Estimate, rel: float = 1e-9) -> None:
    """Point ``i`` of a sweep is the estimate of that point alone."""

    def same(swept: Any, one: Any) -> None:
        assert (swept is None) == (one is None)
        if one is not None:
            assert np.broadcast_to(swept, whole.shape).ravel()[i] == pytest.approx(one, rel=rel, abs=1e-12)

    for name in (*SCALARS, "ttft_s", "tpot_s"):
        same(getattr(whole, name), getattr(alone, name))
    for swept, one in zip(whole.interval_s, alone.interval_s, strict=True):
        same(swept, one)
    for resource in {*whole.shares, *alone.shares}:
        same(whole.shares.get(resource, 0.0), alone.shares.get(resource, 0.0))
    for entry, size in alone.memory.entries.items():
        same(whole.memory.entries[entry], size)
    same(np.asarray(whole.memory.fits, dtype=float), float(alone.memory.fits))
    assert np.broadcast_to(whole.bottleneck, whole.shape).ravel()[i] in _leaders(alone)


def _leaders(alone: rp.Estimate) -> set[str]:
    most = max(alone.shares.values())
    return {name for name, share in alone.shares.items() if share >= most * (1 - 1e-9)}


def pick(*values: float) -> Any:
    return RNG.choice(np.array(values, dtype=float), 200)


SWEEPS: dict[str, tuple[str, str, type[Task], dict[str, Any], dict[str, Any]]] = {
    "decode": (
        "llama-3.1-8b", "8xh100-sxm", rp.Decode,
        {"batch": pick(1, 3, 32, 500), "context": pick(1, 100, 8192, 131072)}, {"tp": pick(1, 2, 8), "dp": 1},
    ),
    "prefill": (
        "gpt-oss-20b", "2x8xh100-sxm", rp.Prefill,
        {"batch": pick(1, 4, 33), "prompt": pick(1, 127, 4096)}, {"tp": pick(1, 4), "pp": pick(1, 2), "cp": pick(1, 2)},
    ),
    "generate": (
        "mixtral-8x7b", "8xa100-sxm-80gb", rp.Generate,
        {"batch": pick(1, 16), "prompt": pick(10, 1000), "output": pick(1, 2, 300)}, {"tp": 8, "ep": pick(1, 2, 8), "dp": 1},
    ),
    "train": (
        "qwen3-8b", "2x8xh100-sxm", rp.Train,
        {"batch": pick(8, 64), "seq": pick(512, 4096)},
        {"tp": pick(1, 2), "pp": pick(1, 4), "dp": pick(1, 2), "micro_batch": pick(1, 2), "zero_stage": 1,
         "schedule": "interleaved"},
    ),
    "forward": ("bert-large", "l4", rp.Forward, {"batch": pick(1, 64), "seq": pick(16, 512)}, {}),
}  # fmt: skip


def swept(name: str) -> tuple[rp.Estimate, Any]:
    model, machine, task, sizes, plan = SWEEPS[name]

    def point(i: int) -> rp.Estimate:
        def cut(values: dict[str, Any]) -> dict[str, Any]:
            return {n: float(v[i]) if isinstance(v, np.ndarray) else v for n, v in values.items()}

        return rp.estimate(model, on=machine, task=task(**cut(sizes)), plan=rp.Plan(**cut(plan)))

    return rp.estimate(model, on=machine, task=task(**sizes), plan=rp.Plan(**plan)), point


# design §2, §4: the same code evaluates one scenario and a million
@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_equals_its_points(name):
    whole, point = swept(name)
    assert whole.shape == (200,)
    for i in range(200):
        agree(whole, i, point(i))


@pytest.mark.parametrize("name", SWEEPS)
def test_cutting_a_sweep_into_chunks_changes_nothing(name, monkeypatch):
    whole, _ = swept(name)
    monkeypatch.setattr(estimates, "CHUNK", 67)
    cut, _ = swept(name)
    for value in SCALARS:
        if getattr(whole, value) is not None:
            assert np.allclose(getattr(cut, value), getattr(whole, value), rtol=1e-12)
    assert cut.shares.keys() == whole.shares.keys()
    for resource, share in whole.shares.items():
        assert np.allclose(cut.shares[resource], share, atol=1e-12)
        assert np.allclose(cut.limits[resource], whole.limits[resource], rtol=1e-9)
    assert np.allclose(cut.memory.total_bytes, whole.memory.total_bytes, rtol=1e-12)
    assert np.array_equal(cut.bottleneck, whole.bottleneck)


def test_a_resource_that_takes_no_part_in_a_chunk_has_no_share_and_limits_nothing(monkeypatch):
    monkeypatch.setattr(estimates, "CHUNK", 4)
    tp = np.repeat([1.0, 2.0], 4)
    found = rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Decode(batch=64), plan=rp.Plan(tp=tp, dp=1))
    assert np.array_equal(found.shares["nvlink"] > 0.0, tp > 1.0)
    assert np.all(found.limits["nvlink"][:4] == 1.0)
    assert np.all(found.limits["nvlink"][4:] > 1.0)


def test_grids_broadcast():
    batch, context, tp = np.array([[[1]], [[64]]]), np.array([[128], [1024], [8192]]), np.array([1, 2, 4, 8])
    grid = rp.estimate(
        "llama-3.1-8b", on="8xh100-sxm", task=rp.Decode(batch=batch, context=context), plan=rp.Plan(tp=tp, dp=1)
    )
    assert grid.time_s.shape == grid.bound_s.shape == grid.shares["hbm"].shape == (2, 3, 4)
    assert np.shape(grid.max_batch) == np.shape(grid.bottleneck) == (2, 3, 4)
    one = rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Decode(batch=64, context=1024), plan=rp.Plan(tp=4, dp=1))
    agree(grid, int(np.ravel_multi_index((1, 1, 2), grid.shape)), one)
    assert grid.max_batch[1, 1, 2] == one.max_batch


def test_a_large_sweep_of_repeated_points_equals_them():
    """Beyond a few thousand points shapes are grouped: every point must get its own group's time."""
    batch, context = np.tile([1.0, 8.0, 64.0], 1500), np.repeat([100.0, 1000.0, 3000.0], 1500)
    whole = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=batch, context=context))
    for i in (0, 1, 2, 1501, 4499):
        agree(whole, i, rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=batch[i], context=context[i])))


# Every kind of mixer, feed-forward part and stack on every kind of device
KINDS = ["llama-3.1-8b", "falcon-7b", "mixtral-8x7b", "deepseek-v2-lite", "deepseek-v3.2", "gpt-oss-20b", "gemma-3-4b",
         "qwen3.5-35b-a3b", "nemotron-3-nano", "nemotron-3-super", "jamba-52b", "mamba-130m", "mamba2-130m", "llama-4-scout",
         "kimi-k3", "t5-base", "whisper-small", "bert-base", "vit-base-patch16-224", "gpt2", "opt-350m", "phi-3-medium",
         "switch-base-8"]  # fmt: skip
MACHINES = ["l4", "mi300x", "tpu-v5e", "xeon-8480plus", "m2-ultra", "8xh100-sxm", "2x8xh100-sxm"]
REASONS = {"bad_task"}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("model", KINDS)
def test_every_model_runs_everywhere_or_says_why_not(model, machine):
    refused = {name: run for name, task in TASKS.items() if (run := _refusal(model, machine, task())) is not None}
    assert set(refused.values()) <= REASONS, refused
    assert len(refused) <= len(TASKS) - 2


def _refusal(model: str, machine: str, task: Task) -> str | None:
    """The kind of error, if any; what runs must be sane."""
    try:
        found = rp.estimate(model, on=machine, task=task)
    except rp.RidgepointError as error:
        return error.kind
    sane(found)
    return None


def sane(found: rp.Estimate) -> None:
    """Finite, positive, consistent; never below the physical limit."""
    assert 0.0 < found.bound_s <= found.time_s < math.inf
    assert found.cost.time_s >= found.bound_s * (1 - 1e-9)  # by the models themselves, not by the cap on top of them
    low, high = found.interval_s
    assert found.bound_s <= low <= found.time_s <= high
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert all(limit >= 1.0 - 1e-9 for limit in found.limits.values())
    assert found.memory.total_bytes > 0
    assert isinstance(found.memory.fits, bool)
    assert found.energy_j is None or 0.0 < found.energy_j < math.inf
    power, device = found.power_w, found.scenario.machine.device
    assert power is None or power <= found.devices * device.power.tdp * (1 + 1e-9)
    assert found.samples_per_s > 0
    assert found.assumptions
    for part in (found.ttft_s, found.tpot_s):
        assert part is None or 0.0 < part <= found.time_s * (1 + 1e-9)


# peers §2b: GB is 1e9 bytes, and no estimate is below its physical limit
def test_a_gigabyte_is_1e9_bytes():
    assert find_machine("a100-sxm-80gb").memory_bytes == 80e9
    assert find_machine("a100-sxm-80gb").memory_bytes_per_s == pytest.approx(2.039e12, rel=0.01)


@pytest.mark.parametrize(
    "plan", [{}, {"weights": "int4"}, {"weights": "fp8", "acts": "fp8", "kv": "fp8"}, {"compiled": False}]
)
@pytest.mark.parametrize("batch", [1, 16, 256])
def test_no_estimate_is_below_weights_and_cache_over_bandwidth(plan, batch):
    found = rp.estimate(
        "llama-3-8b", on="a100-sxm-80gb", task=rp.Decode(batch=batch, context=2048), plan=rp.Plan(**plan)
    )
    bits = {"int4": 4.125, "fp8": 8.0}.get(plan.get("weights", ""), 16.0)
    layers = 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336) * bits / 8
    cache = batch * 2048 * (65536 if plan.get("kv") else 131072)
    assert found.time_s >= (layers + cache) / find_machine("a100-sxm-80gb").memory_bytes_per_s


def test_the_bound_mode_is_the_limit_itself():
    expected, bound = (rp.estimate("llama-3.1-8b", on="h100-sxm", task="decode", mode=m) for m in ("expected", "bound"))
    assert bound.time_s == bound.bound_s == expected.bound_s
    assert bound.interval_s == (bound.time_s, bound.time_s)
    assert bound.shares.keys() <= {"hbm", "matrix", "vector", "special"}
    with pytest.raises(rp.RidgepointError, match="use expected or bound"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", mode="typical")


# issue 2, bad input: a batch that does not fit still gets its estimate, and what would fit
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "nemotron-3-nano", "deepseek-v2-lite"])
@pytest.mark.parametrize("context", [512, 100_000])
def test_the_largest_batch_is_exactly_the_border_of_what_fits(model, context):
    def at(batch: float) -> rp.Estimate:
        return rp.estimate(model, on="h100-sxm", task=rp.Decode(batch=batch, context=context))

    most = at(1).max_batch
    assert most >= 1
    assert at(most).memory.fits is True
    beyond = at(most + 1)
    assert beyond.memory.fits is False
    assert beyond.time_s > 0
    assert beyond.max_batch == most
    assert any(str(most) in warning for warning in beyond.warnings)


def test_what_never_fits_says_so():
    found = rp.estimate("llama-3.1-405b", on="h100-sxm", task="decode")
    assert found.memory.fits is False
    assert found.max_batch == 0
    assert found.warnings
    assert rp.estimate("llama-3.1-8b", on="h100-sxm", task="train").max_batch is None


def test_times_of_generation_add_up():
    found = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Generate(batch=4, prompt=500, output=101))
    assert found.ttft_s + 100 * found.tpot_s == pytest.approx(found.time_s, rel=1e-9)
    assert found.tokens_per_s == pytest.approx(404 / found.time_s)
    assert found.samples_per_s == pytest.approx(4 / found.time_s)
    assert found.cost_usd == pytest.approx(
        found.time_s / 3600 * (find_machine("h100-sxm").device.price.usd_per_hour or 0)  # type: ignore[union-attr]
    )


def test_more_of_everything_takes_no_less_time():
    base: dict[str, Any] = {"batch": 8.0, "context": 4096.0}
    for name in base:
        sizes = np.geomspace(1, 1e5, 60).round()
        found = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(**{**base, name: sizes}))
        assert np.all(np.diff(found.bound_s) >= 0)
        assert np.all(np.diff(found.memory.total_bytes) >= 0)
        assert np.all(found.time_s[1:] >= found.time_s[:-1] * 0.9), name  # other tiles may win a little back


def test_an_op_without_a_rule_is_refused_in_strict_use_and_listed_otherwise(monkeypatch):
    monkeypatch.delitem(KERNELS, "scan")
    with pytest.raises(rp.RidgepointError, match="scan"):
        rp.estimate("mamba2-130m", on="h100-sxm", task="decode", strict=True)
    found = rp.estimate("mamba2-130m", on="h100-sxm", task="decode")
    assert any("scan" in warning for warning in found.warnings)
