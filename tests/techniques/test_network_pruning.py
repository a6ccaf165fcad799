"""Networks made smaller: quadratic in channels, in proportion for operators; what stays limits the gain (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def run(model: str, task: rp.Forward | rp.Sample, *apply: str, machine: str = "a100-sxm-80gb") -> rp.Estimate:
    return rp.estimate(model, on=machine, task=task, apply=apply)


def test_half_the_channels_are_a_quarter_of_the_products() -> None:
    task = rp.Forward(batch=64)
    before, after = run("resnet50", task), run("resnet50", task, "channel-pruning:kept=0.5")
    flops = sum(after.cost.flop.values()) / sum(before.cost.flop.values())
    assert 0.25 <= flops < 0.3, "only the first convolution has three channels that stay"
    assert after.memory["weights"] == pytest.approx(0.25 * before.memory["weights"], rel=0.02)
    assert 1.5 < before.time_s / after.time_s < 1.0 / flops


def test_only_what_matches_becomes_narrower() -> None:
    task = rp.Forward(batch=64)
    one, all_ = (run("resnet50", task, f"channel-pruning:kept=0.5,within={w}").time_s for w in ("layer4.*", "*"))
    assert all_ < one < run("resnet50", task).time_s


def test_removed_operators_take_their_time_and_weights_with_them() -> None:
    task = rp.Sample(batch=1, steps=20)
    before, after = run("sdxl", task), run("sdxl", task, "operator-removal:operators=*.transformer.*,removed=1")
    gone = sum(c.critical_s for c in before.cost.components if ".transformer." in c.label)
    assert before.time_s - after.time_s == pytest.approx(gone, rel=0.05)
    assert after.memory["weights"] < 0.6 * before.memory["weights"]


def test_labels_that_match_nothing_are_refused() -> None:
    with pytest.raises(RidgepointError, match="no operator of resnet50 is labelled"):
        run("resnet50", rp.Forward(batch=1), "operator-removal:operators=*.transformer.*")


@pytest.mark.parametrize("idle", [0.0, 0.5, 0.75])
def test_folded_channels_leave_one_square_matrix(idle: float) -> None:
    """Weights of a feed-forward part: 8d² → 8d²(1 − θ) + d² (repavit)."""
    task = rp.Forward(batch=1)
    before, after = (
        run("vit_large_patch16_224", task),
        run("vit_large_patch16_224", task, f"linear-channel-folding:idle={idle}"),
    )
    saved = (before.memory["weights"] - after.memory["weights"]) / 2.0
    assert saved == pytest.approx(24 * 1024**2 * (8.0 * idle - 1.0), rel=0.02)


def test_folded_norms_leave_the_products() -> None:
    task = rp.Forward(batch=64)
    before, after = run("vit_large_patch16_224", task), run("vit_large_patch16_224", task, "norm-folding")
    assert 1.0 < before.time_s / after.time_s < 1.3
    matrix = [{k: v for k, v in e.cost.flop.items() if k.startswith("matrix")} for e in (before, after)]
    assert matrix[0] == matrix[1]
