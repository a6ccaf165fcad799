"""Formulas by a symbolic recording, beside those through recordings at several sizes and beside ``torch.export`` itself."""

import math

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.file import to_network
from ridgepoint.models.networks.captured.formula import value

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ridgepoint.capture import huggingface  # noqa: E402
from ridgepoint.capture.fit import Sampled, holds  # noqa: E402
from ridgepoint.capture.pytorch import _fitted, capture_pass, record  # noqa: E402
from ridgepoint.capture.session import capture  # noqa: E402
from ridgepoint.capture.symbolic import NotSymbolicError, Symbols  # noqa: E402
from tests.capture import models  # noqa: E402
from tests.capture.test_agreement import configuration  # noqa: E402
from tests.capture.test_modules import FILE, subject  # noqa: E402

IMAGE = "x: float32[B,3,H=64,W=64]"


def numbers(graph, **sizes):
    """Every number of a graph at given sizes."""
    at = {name: float(size) for name, size in sizes.items()}
    found = [value(t.elements, at) for t in graph.tensors]
    for kernel in graph.kernels:
        found += [value(size, at) for size in (*kernel.sizes.values(), kernel.space, *(e for _, e, _ in kernel.reads))]
    return np.array(found, float)


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda: huggingface.subject(configuration("llama-3.1-8b"), "prefill"), {"batch": 9, "prompt": 777}),
        (lambda: huggingface.subject(configuration("qwen3-30b-a3b"), "decode"), {"batch": 9, "context": 777}),
        (lambda: huggingface.subject(configuration("mamba2-2.7b"), "prefill"), {"batch": 9, "prompt": 768}),
        (lambda: subject(models.Language, "ids: int64[B,S=64]", task="train"), {"batch": 9, "seq": 77}),
        (lambda: subject(models.Messages, "x: float32[N=100,16]", "source: int64[E=400]", "target: int64[E]"),
         {"N": 31, "E": 1013}),
    ],
)  # fmt: skip
def test_both_routes_say_the_same(make, sizes):
    found = capture_pass(make())
    assert "by one symbolic capture" in found.method
    fitted = _fitted(make(), lambda text: None)
    assert "captures" in fitted.method
    assert [(k.kind, k.call, k.label) for k in found.graph.kernels] == [
        (k.kind, k.call, k.label) for k in fitted.graph.kernels
    ]
    np.testing.assert_allclose(numbers(found.graph, **sizes), numbers(fitted.graph, **sizes), rtol=1e-12)


@pytest.mark.parametrize("sizes", [{"H": 97, "W": 130}, {"H": 33, "W": 35}, {"H": 224, "W": 224}])
def test_sizes_that_strides_do_not_divide_are_exact(sizes):
    # A polynomial through multiples of 64 would interpolate (97 / 2 positions); letters keep the rounding.
    made = subject(models.Pixels, IMAGE)
    found = capture_pass(made)
    at = {"batch": 5, **sizes}
    assert holds(found.graph, tuple(at), Sampled(tuple(at.values()), record(made, at))) == ""


def test_conditions_are_said_simply():
    # Two convolutions with stride two: what PyTorch asks of their lengths comes to three pixels, or nothing.
    assert capture_pass(subject(models.Pixels, IMAGE.replace("W=64", "H"))).graph.conditions == ("H >= 3",)
    assert capture_pass(subject(models.Language, "ids: int64[B,S=64]")).graph.conditions == ()


@pytest.mark.parametrize("seq", [1, 63, 64, 100, 1025])
def test_lengths_that_are_filled_up_are_exact(seq):
    # No polynomial says ⌈seq / 64⌉.
    made = subject(models.Padded, "x: float32[B,S=256,8]")
    at = {"batch": 5, "seq": seq}
    assert holds(capture_pass(made).graph, tuple(at), Sampled(tuple(at.values()), record(made, at))) == ""


def test_a_condition_of_the_program_bounds_its_formulas(tmp_path):
    # Positions end at 96: a longer sequence is another program (an error, in this one).
    file = tmp_path / "positions.py"
    file.write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = torch.nn.Linear(8, 8)\n\n"
        "    def forward(self, x):\n        y = self.inner(x)\n"
        "        return y.relu() if x.shape[1] <= 96 else y\n\n\nbuild = Net\n",
        encoding="utf-8",
    )
    work = capture(f"{file}:build", ["x: float32[B,S=64,8]"])
    assert work.passes["forward"].conditions == ("seq <= 96",)
    assert "where seq <= 96" in work.method
    assert rp.estimate(to_network(work), on="h100-sxm", task=rp.Forward(batch=4, seq=96)).time_s > 0
    with pytest.raises(rp.RidgepointError, match=r"another program.*seq <= 96"):
        rp.estimate(to_network(work), on="h100-sxm", task=rp.Forward(batch=4, seq=97))


def test_a_size_that_becomes_a_number_is_refused_symbolically_and_the_result_says_so():
    made = subject(models.DependsOnSize, "x: float32[B,8]")
    symbols = Symbols({"batch": 7})
    record(made, {}, symbols)
    with pytest.raises(NotSymbolicError, match="depends on"):
        symbols.conditions()
    assert "not symbolic: the program depends on" in capture_pass(made).method


def test_where_one_sample_runs_otherwise_the_result_says_so():
    # Logits of one sample lie in memory as the loss wants them; those of several are copied.
    found = capture_pass(huggingface.subject(configuration("llama-3.1-8b"), "train"))
    assert "at batch = 1 the program is another: clone" in found.method
    assert "at batch = 1" not in capture_pass(subject(models.Language, "ids: int64[B,S=64]")).method


@pytest.mark.parametrize(
    ("make", "spec", "dims"),
    [
        (models.Language, "ids: int64[B,S=64]", {"ids": {0: "batch", 1: "seq"}}),
        (models.Pixels, IMAGE, {"x": {0: "batch", 2: "H", 3: "W"}}),
    ],
)
def test_the_products_are_those_of_torch_export(make, spec, dims):
    # An independent oracle: the exported program's own symbolic shapes give the same multiply-adds at sizes never captured.
    made = subject(make, spec, shorten=False)
    mine = capture_pass(made).graph
    with torch.device("meta"):
        keywords, _ = made.arguments({"batch": 9, "seq": 64, "H": 64, "W": 64})
    named = {name: {axis: torch.export.Dim(n, min=8, max=4096) for axis, n in d.items()} for name, d in dims.items()}
    program = torch.export.export(made.module, (), keywords, dynamic_shapes=named, strict=False)
    at = {"batch": 5, "seq": 200, "H": 97, "W": 130}
    assert multiplied(program, at, made) == sum(
        flop(kernel, at) for kernel in mine.kernels if kernel.kind in ("gemm", "conv")
    )


def flop(kernel, at):
    sizes = {n: value(s, {k: float(v) for k, v in at.items()}) for n, s in kernel.sizes.items()}
    if kernel.kind == "gemm":
        return sizes["m"] * sizes["n"] * sizes["k"] * sizes.get("batch", 1.0)
    h, w = (
        (sizes[n] + 2 * sizes.get(f"pad_{n}", 0.0) - sizes[f"k{n}"]) // sizes.get("stride", 1.0) + 1 for n in ("h", "w")
    )
    window = sizes["kh"] * sizes["kw"] * sizes["c_in"] / sizes.get("groups", 1.0)
    return sizes["batch"] * h * w * sizes["c_out"] * window


def multiplied(program, at, made):
    """Multiply-adds of an exported program's products and convolutions at given sizes."""
    letters: dict[object, int] = {}
    for node in program.graph.find_nodes(op="placeholder"):
        if node.name in program.graph_signature.user_inputs:
            dims = zip(node.meta["val"].shape, made.arguments(at)[0][node.name].shape, strict=True)
            letters |= {dim.node.expr: number for dim, number in dims if not isinstance(dim, int)}

    def shape(node):
        return [s if isinstance(s, int) else int(s.node.expr.subs(letters)) for s in node.meta["val"].shape]

    total = 0
    for node in program.graph.nodes:
        name = str(node.target)
        if name.startswith(("aten.linear", "aten.conv")):  # a transposed filter meets every position of the input
            met = node.args[0] if "transpose" in name else node
            total += math.prod(shape(met)) * math.prod(shape(node.args[1])[1:])
    return total


def test_the_document_says_which_route_was_taken():
    work = capture(f"{FILE}:language", ["ids: int64[B,S=64]"])
    assert work.method == "forward: formulas in seq, batch by one symbolic capture, exact at seq = 32, batch = 3"
