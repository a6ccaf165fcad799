"""The table of meaning of ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ridgepoint.capture.calls import Call, Value
from ridgepoint.capture.draft import Draft, stream
from ridgepoint.capture.products import convolution, product

Rule = Callable[[Call], list[Draft]]

POINTWISE = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Neg", "Abs", "Relu", "Clip", "Min", "Max", "Where", "Equal", "Less", "Greater",
                     "And", "Or", "Not", "Xor", "Floor", "Ceil", "Round", "Sign", "LeakyRelu", "PRelu", "LessOrEqual",
                     "GreaterOrEqual", "Mod", "BitShift", "IsNaN", "ThresholdedRelu", "Sum", "Mean"), (1, 0)),
    **dict.fromkeys(("Div", "Sqrt", "Exp", "Log", "Reciprocal", "Pow", "Sin", "Cos", "Tan"), (0, 1)),
    **dict.fromkeys(("Sigmoid", "Tanh", "Softplus", "Elu", "Selu", "Erf", "Celu", "Softsign", "Sinh", "Cosh"), (2, 1)),
    **dict.fromkeys(("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "HardSwish", "HardSigmoid", "Mish", "Swish", "Silu"), (6, 1)),
    "Cast": (0, 0), "CastLike": (0, 0),
}  # fmt: skip
FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Constant", "ConstantOfShape", "Size",
        "DequantizeLinear")  # fmt: skip
MOVES = ("Transpose", "Concat", "Slice", "Split", "Pad", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Trilu", "Range",
         "ReverseSequence", "EyeLike", "Upsample", "Resize", "OneHot", "RandomNormal", "RandomUniformLike",
         "RandomNormalLike")  # fmt: skip
GATHERS = ("Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Compress", "GridSample", "RoiAlign")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
              "ReduceSumSquare", "ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool", "CumSum")  # fmt: skip
NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "SimplifiedLayerNormalization",
         "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "RMSNormalization", "LpNormalization", "LRN",
         "MeanVarianceNormalization")  # fmt: skip


def drafts(call: Call) -> list[Draft]:
    """The kernels of a node; a node without a rule becomes one of kind ``unknown``."""
    rule = RULES.get(call.name)
    made = rule(call) if rule is not None else [Draft("unknown", call.inputs, call.results)]
    return [_without_shapes(draft) for draft in made]


def _without_shapes(draft: Draft) -> Draft:
    """Shapes, axes and scales are no traffic: a few numbers that kernels get as arguments."""
    if draft.kind != "stream":
        return draft
    kept = tuple(v for v in draft.reads if not (v.role == "parameter" and v.format == "int64" and v.elements <= 16))
    return replace(draft, reads=kept)


def pointwise(call: Call) -> list[Draft]:
    """Every result element from the same element of the inputs. On shapes (whole numbers of few elements) it is free."""
    made = call.results[0]
    if made.format == "int64" and made.elements <= 16:
        return []
    simple, special = POINTWISE[call.name]
    return [stream(call, flop=simple * made.elements, special=special * made.elements, exponential=call.name == "Exp")]


def matmul(call: Call) -> list[Draft]:
    """Products, batched where both operands are."""
    left, right = (v for v in call.args[:2])
    m, k = (left.shape[-2] if len(left.shape) > 1 else 1), left.shape[-1]
    n = right.shape[-1] if len(right.shape) > 1 else 1
    batch = math.prod(call.results[0].shape[:-2]) if len(right.shape) > 2 else 1
    rows = m if batch > 1 else left.elements // k
    return [product(call, left, right, rows, n, k, batch)]


def quantized(call: Call) -> list[Draft]:
    """``MatMulInteger``, ``QLinearMatMul``, ``ConvInteger``, ``QLinearConv``: operands without scales and zero points."""
    tensors = [v for v in call.args if isinstance(v, Value) and len(v.shape) > 1]
    named = replace(call, args=tuple(tensors))
    return matmul(named) if "MatMul" in call.name else conv(named)


def gemm(call: Call) -> list[Draft]:
    """α·A·B + C, either operand transposed or not."""
    left, right = call.args[0], call.args[1]
    m, k = reversed(left.shape) if call.kwargs.get("transA") else left.shape
    n = right.shape[0] if call.kwargs.get("transB") else right.shape[1]
    return [product(call, left, right, m, n, k)]


def conv(call: Call) -> list[Draft]:
    """Convolutions, transposed or not. Uneven padding counts as even padding of the same sum."""
    x, weight = call.args[0], call.args[1]
    dims = len(x.shape) - 2
    pads = list(call.kwargs.get("pads") or [0] * 2 * dims)
    strides = tuple(call.kwargs.get("strides") or [1] * dims)
    dilations = tuple(call.kwargs.get("dilations") or [1] * dims)
    if call.kwargs.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        made = call.results[0].shape[2:]
        sums = [max((o - 1) * s + (k - 1) * d + 1 - i, 0) for o, s, k, d, i in
                zip(made, strides, weight.shape[2:], dilations, x.shape[2:], strict=True)]  # fmt: skip
        pads = [t / 2 for t in sums] * 2
    even = tuple((a + b) / 2 for a, b in zip(pads[:dims], pads[dims:], strict=True))
    transposed = call.name == "ConvTranspose"
    named = replace(
        call, args=(x, weight, None, strides, even, dilations, transposed, 0, call.kwargs.get("group", 1)), kwargs={}
    )
    return convolution(named)


def reduction(call: Call) -> list[Draft]:
    """Rows of the first input."""
    given = call.args[0]
    return [stream(call, "norm", given.elements, rows=call.results[0].elements, space=given.elements)]


def norm(call: Call) -> list[Draft]:
    """Norms over rows."""
    given = call.args[0]
    rows = given.elements / given.shape[-1]
    return [stream(call, "norm", 5 * given.elements, rows, rows, writes=call.results[:1])]


def batch_norm(call: Call) -> list[Draft]:
    """With running statistics: every element by itself."""
    return [stream(call, flop=2 * call.results[0].elements, writes=call.results[:1])]


def softmax(call: Call) -> list[Draft]:
    """Softmax along an axis."""
    given = call.args[0]
    along = given.shape[call.kwargs.get("axis", -1)]
    return [stream(call, "softmax", 5 * given.elements, given.elements, given.elements / along)]


def move(call: Call) -> list[Draft]:
    """A copy of what is kept; shapes are free."""
    if all(v.format == "int64" and v.elements <= 16 for v in call.results):
        return []
    kept = [v for v in call.inputs if v.format != "int64"] or list(call.inputs)
    made = sum(v.elements for v in call.results)
    reads = tuple(Value(v.id, (min(v.elements, made),), v.format, v.whole, v.role, ("picked",)) for v in kept)
    return [stream(call, "copy", reads=reads, fuses=call.name == "Concat")]


def gather(call: Call) -> list[Draft]:
    """Rows picked by index; picking from a shape is free."""
    made = call.results[0]
    if made.format == "int64" and made.elements <= 16:
        return []
    table, *rest = call.inputs
    picked = Value(table.id, (min(made.elements, table.whole),), table.format, table.whole, table.role, ("picked",))
    return [stream(call, "gather", reads=(picked, *rest[:1]), fuses=False)]


def pool(call: Call) -> list[Draft]:
    """Windows of the input."""
    window = math.prod(call.kwargs.get("kernel_shape", (1,)))
    return [stream(call, flop=call.results[0].elements * window, writes=call.results[:1])]


def quantize(call: Call) -> list[Draft]:
    """To a narrower format."""
    return [stream(call, "quantize", 4 * call.results[0].elements, reads=call.inputs[:1])]


def top_k(call: Call) -> list[Draft]:
    """A selection along rows."""
    given = call.args[0]
    rows = given.elements / given.shape[-1]
    return [stream(call, "sample", 8 * given.elements, rows=rows, reads=(given,), fuses=False, launches=2.0)]


def attention(call: Call) -> list[Draft]:
    """The standard's own attention operator on batch × heads × length × width."""
    query, key, value = call.args[:3]
    if len(query.shape) != 4:
        heads, kv_heads = call.kwargs.get("q_num_heads", 1), call.kwargs.get("kv_num_heads", 1)
        query, key, value = (
            replace(v, shape=(v.shape[0], h, v.shape[1], v.shape[2] // h))
            for v, h in ((query, heads), (key, kv_heads), (value, kv_heads))
        )
    batch, heads, q_len, width = query.shape
    sizes = {"batch": batch, "heads": heads, "kv_heads": key.shape[1], "q_len": q_len, "kv_len": key.shape[2],
             "head_dim": width, "value_dim": value.shape[-1]}  # fmt: skip
    causal = bool(call.kwargs.get("is_causal", 0))
    numbers = {name: float(size) for name, size in sizes.items()}
    return [Draft("attention", (query, key, value), call.results[:1], numbers, {"causal": causal})]


def recurrent(call: Call) -> list[Draft]:
    """LSTM, GRU and RNN: the products with all inputs at once, then a recurrent pass."""
    x, weight = call.args[0], call.args[1]
    seq, batch, width = x.shape
    directions, gates = weight.shape[0], weight.shape[1]
    hidden = call.args[2].shape[-1]
    first = product(call, x, weight, seq * batch, directions * gates, width, suffix="input")
    sizes = {"batch": batch, "seq": seq, "heads": directions, "head_dim": hidden, "state_dim": gates / hidden}
    numbers = {name: float(size) for name, size in sizes.items()}
    scan = Draft("scan", (x, call.args[2]), call.results[:1], numbers, {"variant": "rnn"}, suffix="recurrence")
    return [replace(first, writes=()), scan]


def free(call: Call) -> list[Draft]:
    """No kernel."""
    return []


RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, pointwise),
    **dict.fromkeys(FREE, free),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(GATHERS, gather),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(NORMS, norm),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("QuantizeLinear", "DynamicQuantizeLinear"), quantize),
    **dict.fromkeys(("MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv"), quantized),
    **dict.fromkeys(("Conv", "ConvTranspose"), conv),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    "MatMul": matmul,
    "Gemm": gemm,
    "BatchNormalization": batch_norm,
    "TopK": top_k,
    "Attention": attention,
}
