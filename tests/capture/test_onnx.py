"""ONNX files: shapes by inference, symbolic dimensions as sizes, quantized graphs as what they compute in."""

import math

import pytest

import ridgepoint as rp
from ridgepoint.capture.session import capture
from ridgepoint.models.networks.captured.file import to_network

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


def constant(name, *shape, kind=TensorProto.FLOAT, values=None):
    data = [0] * math.prod(shape) if values is None else values
    return helper.make_tensor(name, kind, shape, data)


def saved(tmp_path, nodes, inputs, outputs, constants, opset=17):
    values = [[helper.make_tensor_value_info(n, t, shape) for n, t, shape in group] for group in (inputs, outputs)]
    graph = helper.make_graph(nodes, "net", *values, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return str(path)


def flop(work, **sizes):
    task = rp.Forward(batch=sizes.pop("batch", 1), inputs=sizes)
    est = rp.estimate(to_network(work), on="h100-sxm", task=task)
    return {c.label: float(c.flop) for c in est.cost.components if c.kind in ("gemm", "conv")}


def test_a_convolution_by_hand_and_its_nonlinearity_in_one_pass_with_the_pool(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "/stem/conv", pads=[3, 3, 3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], "/stem/relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], "/pool"),
    ]
    path = saved(
        tmp_path, nodes, [("x", 1, ["batch", 3, 64, 64])], [("y", 1, ["batch", 16, 1, 1])],
        [constant("w", 16, 3, 7, 7), constant("b", 16)],
    )  # fmt: skip
    work = capture(path)
    assert flop(work, batch=5) == {"stem.conv": 2 * 5 * 16 * 32 * 32 * 3 * 49}
    assert sum(work.parameters.values()) == 16 * 3 * 49 + 16
    est = rp.estimate(to_network(work), on="h100-sxm", task=rp.Forward(batch=5))
    assert [c.kind for c in est.cost.components] == ["conv", "stream", "host"]


def test_symbolic_dimensions_become_sizes(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "/layers.0/up"),
        helper.make_node("Transpose", ["h"], ["t"], "/layers.0/turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["h", "t"], ["s"], "/layers.0/scores"),
        helper.make_node("Softmax", ["s"], ["y"], "/layers.0/softmax"),
    ]
    path = saved(
        tmp_path, nodes, [("x", 1, ["batch", "sequence", 32])], [("y", 1, ["batch", "sequence", "sequence"])],
        [constant("w", 32, 64)],
    )  # fmt: skip
    work = capture(path)
    assert set(work.sizes) == {"sequence"}
    found = flop(work, batch=3, sequence=100)
    assert found == {"layers.*.up": 2 * 300 * 32 * 64, "layers.*.scores": 2 * 3 * 100 * 100 * 64}


def test_where_polynomials_miss_the_rounding_of_a_graph_the_result_says_so(tmp_path):
    # Two positions of 65, not 32.5: strides that do not divide a size.
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "/conv", strides=[2, 2])]
    path = saved(
        tmp_path, nodes, [("x", 1, ["batch", 3, "height", 64])], [("y", 1, ["batch", 8, None, None])],
        [constant("w", 8, 3, 2, 2)],
    )  # fmt: skip
    work = capture(path)
    assert "exact at batch = 7, height = 384" in work.method
    assert "interpolated where the graph rounds" in work.method


def test_inputs_of_a_graph_are_its_own(tmp_path):
    with pytest.raises(rp.RidgepointError, match="--input"):
        capture(str(tmp_path / "net.onnx"), ["x: float32[B]"])


def test_a_quantized_product_computes_in_eight_bits(tmp_path):
    scale, zero = constant("s", values=[0.1]), constant("z", kind=TensorProto.INT8, values=[0])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "/q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "/dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], "/dqw"),
        helper.make_node("MatMul", ["d", "wd"], ["y"], "/matmul"),
    ]
    path = saved(
        tmp_path, nodes, [("x", 1, ["batch", 64])], [("y", 1, ["batch", 8])],
        [scale, zero, constant("w", 64, 8, kind=TensorProto.INT8)],
    )  # fmt: skip
    work = capture(path)
    from ridgepoint.work import ops

    built = rp.estimate(to_network(work), on="h100-sxm", task=rp.Forward(batch=4)).built
    (gemm,) = [op for op in ops(built.device) if op.kind == "gemm"]
    assert (gemm.acts, gemm.weights, gemm.k, gemm.n) == ("int8", "int8", 64.0, 8.0)  # type: ignore[attr-defined]


def test_a_custom_operator_is_listed_with_its_bytes(tmp_path):
    nodes = [helper.make_node("Mystery", ["x"], ["y"], "/odd", domain="own")]
    path = saved(tmp_path, nodes, [("x", 1, ["batch", 64])], [("y", 1, ["batch", 64])], [])
    est = rp.estimate(to_network(capture(path)), on="h100-sxm", task=rp.Forward(batch=1000))
    assert any("Mystery" in warning for warning in est.warnings)
    component, _ = est.cost.components  # the other one is the host that launches it
    assert component.bytes == 2 * 1000 * 64 * 4


@pytest.mark.parametrize(("content", "says"), [(None, "no file"), (b"not a model", "no ONNX model")])
def test_a_file_that_is_no_model_is_refused(tmp_path, content, says):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(rp.RidgepointError, match=says):
        capture(str(path))
