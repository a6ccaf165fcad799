"""Backward passes by op kind and of whole models (design §2)."""

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models.backward import backward
from ridgepoint.ops import Attention, Collective, Conv, Delay, Gemm, Scan, Stream
from ridgepoint.tasks import Forward, Train
from ridgepoint.work import Overlap, Repeat, Seq
from tests.models.parts import built, components, flop

MODELS = ["llama-3.1-8b", "gpt2-xl", "mixtral-8x7b", "bert-large", "deepseek-v2-lite"]


@pytest.mark.parametrize("name", MODELS)
def test_training_takes_three_times_the_products_of_a_forward_pass(name):
    """Forward, gradient of the inputs, gradient of the weights; attention recomputes its scores: 1 + 2.5."""
    forward, train = built(name, Forward(batch=1, seq=512)).device, built(name, Train(batch=1, seq=512)).device
    assert flop(train, "gemm") == pytest.approx(3 * flop(forward, "gemm"), rel=1e-12)
    assert flop(train, "attention") == pytest.approx(3.5 * flop(forward, "attention"), rel=1e-12)


def test_recomputation_repeats_what_it_says():
    def products(**plan):
        work = built("gpt2-xl", Train(batch=1, seq=512), **plan).device
        layers = sum(c.flop for label, c in components(work).items() if label.startswith("layers") and c.kind == "gemm")
        return layers, flop(work, "gemm") - layers, flop(work, "attention")

    layers, head, attention = products()
    assert products(recompute="full") == pytest.approx((layers * 4 / 3, head, attention * 4.5 / 3.5))
    assert products(recompute="selective") == pytest.approx(
        (layers, head, attention)
    )  # the fused kernel keeps no scores
    plain = products(fused_attention=False)
    again = products(fused_attention=False, recompute="selective")
    scores = 48 * 4 * 512 * 512 * 1600
    assert again[0] - plain[0] == pytest.approx(scores)


def test_a_product_has_two_gradients_of_its_own_size():
    op = Gemm(m=8.0, n=4.0, k=2.0, batch=3.0, label="g")
    assert flop(backward(op), "gemm") == 2 * flop(op, "gemm")


def test_attention_and_scans_have_gradient_kernels():
    attention = Attention(batch=1.0, heads=2.0, kv_heads=2.0, q_len=64.0, kv_len=64.0, head_dim=64.0, label="a")
    assert flop(backward(attention), "attention") == 2.5 * flop(attention, "attention")
    scan = Scan(batch=1.0, seq=64.0, heads=2.0, head_dim=64.0, state_dim=16.0, label="s")
    assert flop(backward(scan), "scan") == 2 * flop(scan, "scan")
    conv = Conv(batch=1.0, c_in=8.0, c_out=16.0, h=8.0, w=8.0, kh=3.0, kw=3.0, pad_h=1.0, pad_w=1.0, label="c")
    assert flop(backward(conv), "conv") == 2 * flop(conv, "conv")


def test_collectives_turn_into_their_duals():
    pairs = {"all_gather": "reduce_scatter", "reduce_scatter": "all_gather", "all_reduce": "all_reduce"}
    for operation, dual in pairs.items():
        found = backward(Collective(operation=operation, bytes=1.0, ranks=2.0, label="c"))
        assert isinstance(found, Collective)
        assert found.operation == dual


def test_the_order_is_turned_around():
    a, b = Stream(read_bytes=1.0, write_bytes=2.0, label="a"), Stream(read_bytes=3.0, write_bytes=4.0, label="b")
    found = backward(Seq(a, Repeat(2.0, Overlap(a, b))))
    assert [str(op.label) for op in found.children()[0].children()[0].children()] == ["b.grad", "a.grad"]
    (gradient,) = (op for op in found.children()[1:] if isinstance(op, Stream))
    assert (gradient.read_bytes, gradient.write_bytes) == (3.0, 1.0)


# design §2: no silent zero
def test_an_op_without_a_gradient_rule_is_refused():
    with pytest.raises(RidgepointError, match="delay"):
        backward(Delay(seconds=1.0))
