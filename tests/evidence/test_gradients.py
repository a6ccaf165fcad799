"""Gradients as PyTorch runs them: which ops take longer in which layout, and that nothing else changes (design §8)."""

from typing import Any

import pytest

from ridgepoint.evidence.gradients import FACTORS, eager_gradients
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.work import Op

SIZES: dict[str, Any] = {"batch": 8.0, "h": 14.0, "w": 14.0, "kh": 3.0, "kw": 3.0, "pad_h": 1.0, "pad_w": 1.0}


def conv(direction: str, channels: float = 64.0, groups: float = 1.0) -> Conv:
    return Conv(c_in=channels, c_out=channels, groups=groups, direction=direction, **SIZES)


def stream(pattern: str, label: str) -> Stream:
    return Stream(read_bytes=1e6, write_bytes=1e6, pattern=pattern, label=label)


def factor(op: Op, layout: str = "nchw") -> float:
    ((same, count),) = eager_gradients([(op, 2.0)], layout)
    assert same is op, "the op itself is what the model built"
    return float(count) / 2.0


@pytest.mark.parametrize("layout", ["nchw", "nhwc", ""])
@pytest.mark.parametrize(
    "op",
    [
        conv("fwd", groups=64.0),
        conv("bwd_weight"),
        conv("bwd_data"),
        Gemm(m=8.0, n=8.0, k=8.0, label="fc.grad_weight"),
        stream("batch_norm", "stem_norm"),
        stream("elementwise", "block.act.grad"),
        stream("elementwise", "block.add.grad"),
        stream("elementwise", "block.scale"),
        stream("permute", "windows.grad"),
    ],
)
def test_forward_passes_products_and_simple_gradients_stay(op: Op, layout: str) -> None:
    assert factor(op, layout) == 1.0


def test_each_gradient_has_the_factor_of_its_layout() -> None:
    for layout in ("nchw", "nhwc"):
        assert factor(stream("batch_norm", "stem_norm.grad"), layout) == FACTORS["batch_norm"][layout]
        assert factor(stream("elementwise", "gate.scale.grad"), layout) == FACTORS["broadcast"][layout]
        assert factor(conv("bwd_weight", groups=64.0), layout) == FACTORS["depthwise"][layout]
        assert factor(conv("bwd_weight", groups=4.0), layout) == FACTORS["grouped_weights"][layout]
        assert factor(conv("bwd_data", groups=4.0), layout) == FACTORS["grouped_image"][layout]


def test_narrow_groups_have_a_kernel_of_their_own() -> None:
    assert factor(conv("bwd_weight", groups=16.0), "nhwc") == 1.0


def test_a_layout_that_is_not_stated_is_the_frameworks_default() -> None:
    op = stream("batch_norm", "stem_norm.grad")
    assert factor(op, "") == factor(op, "nchw")
