"""Rules of the calls that are bound by memory: elementwise steps, reductions, norms, look-ups, copies, pools, sorts.

Numbers are (simple operations, special functions) per element: exponentials, roots, reciprocals are special.
"""

from __future__ import annotations

import math

from ridgepoint.capture.calls import Call, Value, larger, tensors_of
from ridgepoint.capture.draft import Draft, stream
from ridgepoint.capture.products import Rule

SPECIAL = {
    "exp": (0, 1), "exp2": (0, 1), "expm1": (1, 1), "log": (0, 1), "log2": (0, 1), "log1p": (1, 1), "log10": (0, 1),
    "sqrt": (0, 1), "rsqrt": (0, 1), "reciprocal": (0, 1), "div": (0, 1), "pow": (1, 0), "sin": (0, 1), "cos": (0, 1),
    "tan": (1, 2), "tanh": (2, 1), "sigmoid": (2, 1), "silu": (3, 1), "gelu": (6, 1), "mish": (4, 2), "softplus": (2, 2),
    "elu": (2, 1), "erf": (4, 1), "hardswish": (4, 0), "hardsigmoid": (3, 0), "log_sigmoid_forward": (3, 2),
    "silu_backward": (6, 1), "gelu_backward": (10, 1), "sigmoid_backward": (3, 0), "tanh_backward": (3, 0),
    "atan": (2, 1), "atan2": (3, 2), "asin": (2, 1), "acos": (2, 1), "sinh": (2, 2), "cosh": (2, 2), "lerp": (3, 0),
    "addcmul": (3, 0), "addcdiv": (2, 1), "clamp": (2, 0), "where": (1, 0), "remainder": (2, 1), "fmod": (2, 1),
    "_to_copy": (0, 0), "clone": (0, 0), "copy": (0, 0), "fill": (0, 0), "sinc": (2, 1), "erfinv": (8, 2),
    "softplus_backward": (3, 1), "elu_backward": (3, 1), "hardtanh": (2, 0), "leaky_relu": (2, 0), "hypot": (3, 1),
    "floor_divide": (1, 1), "bitwise_and": (1, 0),
    "swiglu": (5, 1), "logit": (2, 2),
    "hardswish_backward": (5, 0), "hardsigmoid_backward": (2, 0),
}  # fmt: skip
"""Pointwise calls that cost other than one simple operation."""

MOVES = (
    "clone", "copy", "_to_copy", "cat", "stack", "constant_pad_nd", "roll", "flip", "repeat", "repeat_interleave", "tril",
    "triu", "slice_scatter", "select_scatter", "slice_backward", "select_backward", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "as_strided_scatter", "diagonal_scatter", "reflection_pad1d", "reflection_pad2d",
    "replication_pad2d", "replication_pad3d", "lift_fresh_copy", "split_with_sizes_copy", "unfold_backward", "block_diag",
    "diag_embed", "meshgrid", "reflection_pad1d_backward", "reflection_pad2d_backward", "_reshape_copy", "reshape_copy",
    "contiguous", "col2im", "im2col", "unfold_copy", "_unsafe_index", "append",
)  # fmt: skip
FILLS = (
    "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "arange",
    "linspace", "eye", "fill", "zero", "scalar_tensor", "rand", "randn", "rand_like", "randn_like", "randint", "bernoulli",
    "normal", "uniform", "tril_indices", "triu_indices", "one_hot", "randperm", "exponential", "lift_fresh", "logspace",
)  # fmt: skip
FREE = (
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach", "alias", "wait_tensor",
    "resize", "set", "is_same_size", "_assert_async", "_assert_scalar", "sym_size", "sym_numel", "sym_stride",
    "record_stream", "_assert_tensor_metadata", "empty_permuted",
)  # fmt: skip
"""Calls that start no kernel."""

REDUCTIONS = {
    "sum": 1, "mean": 1, "amax": 1, "amin": 1, "max": 1, "min": 1, "prod": 1, "any": 1, "all": 1, "argmax": 1, "argmin": 1,
    "var": 4, "std": 4, "var_mean": 4, "std_mean": 4, "norm": 2, "linalg_vector_norm": 2, "logsumexp": 4, "nansum": 2,
    "aminmax": 2, "count_nonzero": 1, "median": 8, "mode": 8, "trace": 1, "mse_loss": 3, "smooth_l1_loss": 4,
    "binary_cross_entropy": 6, "binary_cross_entropy_with_logits": 8, "huber_loss": 4, "kl_div": 4, "l1_loss": 2,
}  # fmt: skip
SCANS = ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
LOOK_UPS = (
    "embedding", "index", "index_select", "gather", "take", "take_along_dim", "grid_sampler_2d", "grid_sampler_3d",
    "grid_sampler_2d_backward", "_embedding_bag", "_embedding_bag_forward_only", "bucketize", "searchsorted",
    "embedding_renorm", "masked_select",
)  # fmt: skip
SCATTERS = (
    "scatter", "scatter_add", "scatter_reduce", "index_add", "index_put", "index_copy", "index_fill", "masked_scatter",
    "embedding_dense_backward", "_index_put_impl", "_unsafe_index_put", "index_reduce", "put", "bincount", "histc",
    "_embedding_bag_dense_backward", "segment_reduce",
)  # fmt: skip
SORTS = ("sort", "topk", "argsort", "kthvalue", "msort", "unique_consecutive", "_unique2")
POOLS = (
    "max_pool2d_with_indices", "avg_pool2d", "avg_pool1d", "avg_pool3d", "max_pool3d_with_indices", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_avg_pool1d", "max_pool2d",
)  # fmt: skip
RESIZES = ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d",
           "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d",
           "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")  # fmt: skip


def pointwise(call: Call) -> list[Draft]:
    """Every result element from the same element of the inputs."""
    elements = larger(0, *(v.elements for v in call.results))
    simple, special = SPECIAL.get(call.name, (1, 0))
    if call.name == "pow" and not isinstance(call.arg(1), int):
        simple, special = 1, 2  # a whole exponent is multiplied out, any other goes through exponential and logarithm
    return [stream(call, flop=simple * elements, special=special * elements, exponential=call.name in ("exp", "exp2"))]


def of_each(call: Call) -> list[Draft]:
    """The same pointwise step on every tensor of a list (``_foreach_…``), as one kernel; copies read the second list only."""
    elements = sum(v.elements for v in call.results)
    simple, special = SPECIAL.get(call.name.removeprefix("_foreach_"), (1, 0))
    given = tuple(tensors_of(call.args[1])) if call.name == "_foreach_copy" else None
    return [stream(call, flop=simple * elements, special=special * elements, reads=given, space=elements, fuses=False)]


def move(call: Call) -> list[Draft]:
    """A copy; the parts of a concatenation are read whole, other inputs as far as results need them."""
    if call.name == "append":
        return [_append(call)]
    return [stream(call, pattern="elementwise" if call.name in ("clone", "_to_copy", "copy") else "copy")]


def _append(call: Call) -> Draft:
    """New keys and values written behind those of a cache that is long enough: the rest of it is not touched."""
    return stream(call, pattern="copy", reads=call.args[1:2], space=call.args[1].elements, fuses=False, appends=True)


def fill(call: Call) -> list[Draft]:
    """Written, nothing read."""
    return [stream(call, pattern="copy", reads=(), fuses=True)]


def free(call: Call) -> list[Draft]:
    """No kernel."""
    return []


def reduction(call: Call) -> list[Draft]:
    """Rows of the first input, one result each."""
    given = call.inputs[0]
    rows = call.results[0].elements
    if call.name in ("max", "min") and len(call.inputs) == 2:
        return pointwise(call)
    factor = REDUCTIONS[call.name]
    return [stream(call, "norm", factor * given.elements, rows=rows, space=given.elements)]


def cumulative(call: Call) -> list[Draft]:
    """A running sum along rows."""
    given = call.inputs[0]
    along = call.arg(1, "dim", -1)
    length = given.shape[along] if given.shape else 1
    return [stream(call, "norm", 2 * given.elements, rows=given.elements // max(length, 1), fuses=False)]


def look_up(call: Call) -> list[Draft]:
    """Rows picked by index: the rows that are picked, and the indices."""
    table, *rest = call.inputs
    made = call.results[0].elements
    picked = Value(table.id, (made,), table.format, made, table.role, ("picked",))
    return [stream(call, "gather", reads=(picked, *rest), writes=call.results[:1], fuses=False)]


def scatter(call: Call) -> list[Draft]:
    """Rows added or written at indices: the new values are read, and what they meet is read and written."""
    values = call.inputs[1:] if len(call.inputs) > 1 else call.inputs
    moved = sum(v.elements for v in values)
    return [stream(call, "gather", flop=moved, fuses=False)]


def sorting(call: Call) -> list[Draft]:
    """A radix sort or selection: a few passes over the keys."""
    given = call.inputs[0]
    return [stream(call, "sample", 8 * given.elements, rows=_rows(given), fuses=False, launches=2.0)]


def _rows(value: Value) -> int:
    return value.elements // value.shape[-1] if value.shape and value.shape[-1] else 1


def softmax(call: Call) -> list[Draft]:
    """Softmax or its logarithm along rows."""
    given = call.inputs[0]
    dim = call.arg(1, "dim", -1)
    rows = given.elements // max(given.shape[dim] if given.shape else 1, 1)
    return [stream(call, "softmax", 5 * given.elements, given.elements, rows)]


def softmax_backward(call: Call) -> list[Draft]:
    """Gradient of a softmax: two inputs, one reduction."""
    given = call.inputs[0]
    return [stream(call, "softmax", 4 * given.elements, 0, _rows(given))]


def norm(call: Call) -> list[Draft]:
    """Layer, group, instance and RMS norms: mean, variance, scale and shift in one kernel."""
    given = call.inputs[0]
    widths = call.arg(1)
    if call.name == "native_group_norm":
        rows = given.shape[0] * call.args[6]
    elif isinstance(widths, list | tuple):
        rows = given.elements // math.prod(widths)
    else:
        rows = _rows(given)
    return [stream(call, "norm", 5 * given.elements, rows, rows)]


def norm_backward(call: Call) -> list[Draft]:
    """Gradients of a norm's input and scale."""
    given = call.inputs[0]
    rows = given.elements // given.shape[-1] if len(given.shape) < 4 else given.shape[0] * given.shape[1]
    return [stream(call, "norm", 9 * given.elements, rows, rows)]


def batch_norm(call: Call) -> list[Draft]:
    """With running statistics every element by itself; in training a reduction over each channel."""
    given = call.inputs[0]
    training = next((a for a in call.args if isinstance(a, bool)), False) and "no_training" not in call.name
    if "backward" in call.name or training:
        return [stream(call, "norm", 8 * given.elements, rows=given.shape[1], fuses=False, launches=2.0)]
    return [stream(call, flop=2 * given.elements, writes=call.results[:1])]


def pool(call: Call) -> list[Draft]:
    """Windows of the input, one result each."""
    given, made = call.inputs[0], call.results[0]
    window = call.arg(1)
    if "adaptive" in call.name:
        return [stream(call, "norm", given.elements, rows=made.elements, space=given.elements)]
    return [stream(call, flop=made.elements * math.prod(window if isinstance(window, list | tuple) else (window,)))]


def resize(call: Call) -> list[Draft]:
    """Interpolated positions."""
    made = call.results[0].elements
    return [stream(call, "copy", (0 if "nearest" in call.name else 8) * made)]


def simple_backward(call: Call) -> list[Draft]:
    """Gradients that take one pass: pools, interpolation, losses, dropout."""
    return [stream(call, flop=2 * larger(0, *(v.elements for v in call.results)))]


def fourier(call: Call) -> list[Draft]:
    """A fast Fourier transform: 5·n·log₂ n operations per row of n."""
    given = call.inputs[0]
    dims = call.arg(1, "dim", (-1,))
    length = math.prod(given.shape[d] for d in dims)
    elements = larger(given.elements, call.results[0].elements)
    return [stream(call, "copy", 5 * elements * math.log2(max(length, 2)), fuses=False, launches=float(len(dims)))]


def dropout(call: Call) -> list[Draft]:
    """Random numbers, a mask, a product."""
    return [stream(call, flop=6 * call.results[0].elements)]


def loss(call: Call) -> list[Draft]:
    """Negative log likelihood: one value of each row."""
    return [stream(call, "gather", fuses=False, reads=call.inputs[1:], launches=1.0)]


def weighted_sum(call: Call) -> list[Draft]:
    """Results of the experts of a token, weighted and added: every row is read once."""
    rows = call.inputs[0] if call.name == "weighted_sum" else call.inputs[1]
    return [stream(call, flop=2 * rows.elements, fuses=False)]


def short_convolution(call: Call) -> list[Draft]:
    """A causal depthwise convolution over a few tokens with its nonlinearity: a kernel that memory binds."""
    made, weight = call.results[0], call.inputs[-1]
    return [stream(call, flop=2 * weight.shape[-1] * made.elements, special=made.elements, fuses=False)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("short_convolution", "short_convolution_backward"), short_convolution),
    **dict.fromkeys(("weighted_sum", "weighted_sum_backward"), weighted_sum),
    **dict.fromkeys(SPECIAL, pointwise),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(FILLS, fill),
    **dict.fromkeys(FREE, free),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(SCANS, cumulative),
    **dict.fromkeys(LOOK_UPS, look_up),
    **dict.fromkeys(SCATTERS, scatter),
    **dict.fromkeys(SORTS, sorting),
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys(RESIZES, resize),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), softmax),
    **dict.fromkeys(("_softmax_backward_data", "_log_softmax_backward_data"), softmax_backward),
    **dict.fromkeys(("native_layer_norm", "native_group_norm", "_fused_rms_norm"), norm),
    **dict.fromkeys(
        ("native_layer_norm_backward", "native_group_norm_backward", "_fused_rms_norm_backward"), norm_backward
    ),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
         "native_batch_norm_backward", "batch_norm_backward", "_batch_norm_with_update", "_batch_norm_no_update"),
        batch_norm,
    ),
    **dict.fromkeys(
        ("max_pool2d_with_indices_backward", "avg_pool2d_backward", "_adaptive_avg_pool2d_backward",
         "upsample_nearest2d_backward", "upsample_bilinear2d_backward", "native_dropout_backward", "nll_loss_backward",
         "nll_loss2d_backward", "mse_loss_backward", "smooth_l1_loss_backward", "upsample_nearest1d_backward",
         "adaptive_max_pool2d_backward", "max_pool3d_with_indices_backward", "avg_pool3d_backward",
         "binary_cross_entropy_backward", "upsample_bicubic2d_backward", "huber_loss_backward", "embedding_backward",
         "_fused_dropout_backward", "upsample_nearest3d_backward"),
        simple_backward,
    ),
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), fourier),
    **dict.fromkeys(("native_dropout", "_fused_dropout"), dropout),
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), loss),
}  # fmt: skip
