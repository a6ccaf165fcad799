"""What training adds to a rank's experts (design §2): the host's calls, passes that Megatron-LM does not fuse."""

import numpy as np
import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.architecture import Experts
from ridgepoint.models.backward import backward
from ridgepoint.models.execution import Cut, Execution, Formats, Tokens
from ridgepoint.models.feed import experts
from ridgepoint.ops import Gemm, Host, Stream
from ridgepoint.work import Work, ops

HIDDEN = 2048


def layer(
    training: bool = True, inputs: str = "bf16", bias: bool = False, ep: float = 8.0, tokens: float = 4096.0
) -> Work:
    formats = Formats((("default", inputs), ("router", "bf16")), inputs=inputs)
    run = Execution(formats=formats, cut=Cut(ep=ep), training=training)
    feed = Experts(128, 8, 768, bias=bias)
    return experts(feed, HIDDEN, Tokens(1.0, tokens, tokens), run, "moe")


def calls(work: Work) -> float:
    return float(sum(np.asarray(op.launches).item() for op in ops(work) if isinstance(op, Host)))


def test_each_expert_of_the_rank_is_started_by_itself():
    # 128 experts on 8 ranks: 16 a rank, two products each forwards and four backwards. One call for the whole group, as
    # serving engines have, would lose what binds small experts.
    assert calls(layer()) == pytest.approx(2 * 16)
    assert calls(backward(layer())) == pytest.approx(4 * 16)
    assert calls(layer(ep=32.0)) == pytest.approx(2 * 4)
    assert calls(layer(inputs="mxfp8")) == pytest.approx(4 * 16), "a conversion of each expert's rows"
    assert calls(layer(training=False)) == 0.0, "engines start one kernel for all experts"


def test_small_experts_wait_for_the_host_and_large_ones_do_not():
    machine = find_machine("8xgb200")
    few, many = (evaluate(layer(tokens=n), machine, strict=True) for n in (256.0, 65536.0))
    assert few.shares["host"] > 0.3
    assert many.shares.get("host", 0.0) < 0.01


@pytest.mark.parametrize("ep", [8.0, 32.0])
def test_training_converts_the_rows_that_the_rank_got(ep):
    # Not those of all ranks whose tokens meet at the experts: with 32 ranks that would be four times more.
    rows = 4096.0 * 8
    (first, _) = [op for op in ops(layer(inputs="mxfp8", ep=ep)) if op.label == "moe.quantize"]
    assert isinstance(first, Stream)
    assert first.read_bytes == pytest.approx(2.0 * rows * HIDDEN)


def test_biased_experts_have_passes_of_their_own_and_the_same_products():
    plain, biased = layer(), layer(bias=True)
    assert [op.label for op in ops(biased) if isinstance(op, Gemm)] == [
        op.label for op in ops(plain) if isinstance(op, Gemm)
    ]
    added = {op.label for op in ops(biased)} - {op.label for op in ops(plain)}
    assert added == {"moe.experts.activation.clamp", "moe.experts.bias"}
