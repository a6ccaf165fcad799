"""ONNX files as captured passes: shapes by inference at several sizes, one rule per operator, quantized graphs as what
they compute in.

A symbolic dimension becomes a size: the first dimension of the inputs, or one named like a batch, is the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ridgepoint.capture.calls import Call, Value
from ridgepoint.capture.draft import Program
from ridgepoint.capture.extra import needed
from ridgepoint.capture.fit import DifferentProgramsError, Sampled, fitted, holds
from ridgepoint.capture.onnx_rules import drafts
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.file import VERSION, WorkFile
from ridgepoint.models.networks.captured.graph import Graph

_TYPES = {
    1: "fp32", 2: "uint8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16", 11: "fp64",
    12: "int32", 13: "int64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 21: "int4", 22: "int4",
}  # fmt: skip
USUAL_LENGTH = 128
_BATCH = ("batch", "n", "b", "batch_size", "batchsize", "bs", "num_batch")


def capture_onnx(path: Path, tasks: Sequence[str] = ()) -> WorkFile:
    """The forward pass of an ONNX graph.

    Errors: ``bad_file`` for a file that is no model; ``bad_task`` for other tasks than ``forward``.
    """
    onnx = needed("onnx", "capturing an ONNX file")
    if set(tasks) - {"forward"}:
        raise RidgepointError("bad_task", "an ONNX file holds a forward pass", "use --task forward")
    if not path.is_file():
        raise RidgepointError("bad_file", f"there is no file {path}", "check the path")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise RidgepointError("bad_file", f"{path} is no ONNX model: {str(error)[:120]}", "export it again") from None
    names = _sizes(model)
    graph, fixed, method = _formulas(model, names)
    constants = _initializers(model)
    return WorkFile(
        ridgepoint_work=VERSION,
        name=path.stem,
        source=str(path),
        method=f"forward: {method}",
        format=_main_format(constants),
        sizes={n: float(s) for n, s in names.items() if n != "batch" and n not in fixed},
        parameters=_parameters(constants),
        passes={"forward": graph},
        title=model.graph.name or path.stem,
        captured_with=f"onnx {onnx.__version__}",
        fixed={n: float(s) for n, s in fixed.items() if n == "batch"} if "batch" in names else {"batch": 1.0},
    )


def _sizes(model: Any) -> dict[str, int]:
    """Symbolic dimensions of the inputs with a usual value; what stands first is the batch."""
    found: dict[str, int] = {}
    constants = {t.name for t in model.graph.initializer}
    for given in model.graph.input:
        if given.name in constants:
            continue
        for position, dim in enumerate(given.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                name = size_name(dim.dim_param, position)
                found.setdefault(name, 1 if name == "batch" else USUAL_LENGTH)
    return found


def size_name(written: str, position: int) -> str:
    """What a symbolic dimension is called here.

    >>> size_name("batch_size", 1), size_name("unk__7", 0), size_name("sequence_length", 1), size_name("past+1", 2)
    ('batch', 'batch', 'sequence_length', 'past_1')
    """
    word = re.sub(r"\W+", "_", written).strip("_")
    if word.lower() in _BATCH or position == 0:
        return "batch"
    return word if word.isidentifier() else f"dim{position}"


def _formulas(model: Any, names: dict[str, int]) -> tuple[Graph, dict[str, int], str]:
    """One graph with formulas in the symbolic dimensions, through graphs of fixed ones."""
    axes = {n: (2, 3, 5) if n == "batch" else (s, 2 * s, 4 * s) for n, s in names.items()}
    for degree in (1, 2):
        if not names:
            return _graph(model, {}), {}, "all dimensions are fixed in the file"
        places = [axes[n][: (1 if n == "batch" else degree) + 1] for n in names]
        try:
            samples = [Sampled(p, _graph(model, dict(zip(names, p, strict=True)))) for p in product(*places)]
            graph = fitted(tuple(names), samples, tuple(len(p) - 1 for p in places))
            check = tuple(7 if n == "batch" else 3 * s for n, s in names.items())
            failed = holds(graph, tuple(names), Sampled(check, _graph(model, dict(zip(names, check, strict=True)))))
        except (DifferentProgramsError, RidgepointError) as error:
            return _graph(model, names), dict(names), f"at fixed sizes ({error})"
        if not failed:
            said = ", ".join(f"{n} = {s:,}" for n, s in zip(names, check, strict=True))
            method = f"formulas in {', '.join(names)} through {len(samples)} sizes, exact at {said}"
            return graph, {}, method + _rounding(model, names, graph)
    raise RidgepointError("bad_capture", f"no polynomial fits the shapes: {failed}", "fix the symbolic dimensions")


def _rounding(model: Any, names: dict[str, int], graph: Graph) -> str:
    """What formulas, which know no rounding, say otherwise than the graph at a size that nothing divides."""
    odd = {n: 7 if n == "batch" else s + 1 for n, s in names.items()}
    try:
        failed = holds(graph, tuple(names), Sampled(tuple(odd.values()), _graph(model, odd)))
    except RidgepointError:
        return ""
    return f"; interpolated where the graph rounds: {failed}" if failed else ""


@dataclass
class _Shapes:
    """What is known of the tensors of a graph at fixed sizes."""

    shape: dict[str, tuple[int, ...]]
    type: dict[str, str]
    constants: Mapping[str, Any]
    values: dict[str, Value] = field(default_factory=dict)
    quantized: dict[str, str] = field(default_factory=dict)
    """Dequantized tensor → the quantized one behind it."""


def _graph(model: Any, sizes: Mapping[str, int]) -> Graph:
    """The graph at fixed sizes."""
    fixed = _inferred(model, sizes)
    shapes = _known(fixed)
    program = Program()
    inputs, outputs = {i.name for i in fixed.graph.input}, {o.name for o in fixed.graph.output}
    for node in fixed.graph.node:
        if node.op_type == "DequantizeLinear":
            shapes.quantized[node.output[0]] = node.input[0]
        call = _call(node, shapes, program, inputs)
        for draft in drafts(call):
            program.drafts.append((call, draft))
        _views(call, node, shapes)
    for name in outputs:
        if name in shapes.values:
            program.roles[shapes.values[name].id] = "output"
    return program.graph()


def _inferred(model: Any, sizes: Mapping[str, int]) -> Any:
    onnx = needed("onnx", "capturing an ONNX file")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    constants = {t.name for t in fixed.graph.initializer}
    named: dict[str, int] = {}
    for given in fixed.graph.input:
        for position, dim in enumerate(given.type.tensor_type.shape.dim):
            if given.name not in constants and not dim.HasField("dim_value"):
                named[dim.dim_param] = sizes[size_name(dim.dim_param, position)]
                dim.dim_value = named[dim.dim_param]
    for item in (*fixed.graph.output, *fixed.graph.value_info):  # what the file says of its other tensors
        for dim in item.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in named:
                dim.dim_value = named[dim.dim_param]
            elif not dim.HasField("dim_value"):
                dim.Clear()
    try:
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception as error:
        raise RidgepointError(
            "bad_capture", f"shapes cannot be inferred: {str(error)[:200]}", "export it again"
        ) from None


def _known(model: Any) -> _Shapes:
    shapes = _Shapes({}, {}, _initializers(model))
    for name, tensor in shapes.constants.items():
        shapes.shape[name], shapes.type[name] = tuple(tensor.dims), _TYPES.get(tensor.data_type, "fp32")
    for group in (model.graph.input, model.graph.value_info, model.graph.output):
        for item in group:
            dims = item.type.tensor_type.shape.dim
            if item.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                shapes.shape[item.name] = tuple(d.dim_value for d in dims)
            shapes.type[item.name] = _TYPES.get(item.type.tensor_type.elem_type, "fp32")
    return shapes


def _initializers(model: Any) -> dict[str, Any]:
    found = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return found


def _call(node: Any, shapes: _Shapes, program: Program, inputs: set[str]) -> Call:
    """A node as a call; operands of products that come from a dequantization are the quantized tensors themselves."""
    onnx = needed("onnx", "capturing an ONNX file")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.type not in (5, 10)}
    product_like = node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Attention")
    given = []
    for name in node.input:
        source = shapes.quantized.get(name, name) if product_like else name
        given.append(_value(source, node, shapes, program, inputs) if name else None)
    results = tuple(_value(name, node, shapes, program, inputs) for name in node.output if name)
    attributes["constants"] = {i: shapes.constants[n] for i, n in enumerate(node.input) if n in shapes.constants}
    path = (node.name or node.op_type).strip("/").replace("/", ".")
    shown = re.sub(r"\.(\d+)(?=\.|$)", r".*", path)
    return Call(node.op_type, tuple(given), results, attributes, path, shown, leaf=True)


def _value(name: str, node: Any, shapes: _Shapes, program: Program, inputs: set[str]) -> Value:
    if name in shapes.values:
        return shapes.values[name]
    if name not in shapes.shape:
        raise RidgepointError(
            "bad_capture",
            f"the shape of '{name}' ({node.op_type} {node.name}) depends on values or on a custom operator",
            "export with fixed shapes there, or simplify the graph",
        )
    at = len(program.values)
    shape, kind = shapes.shape[name], shapes.type.get(name, "fp32")
    program.values[at] = (math.prod(shape), kind)
    role = "parameter" if name in shapes.constants else "input" if name in inputs else "activation"
    if role != "activation":
        program.roles[at] = role
    shapes.values[name] = Value(at, shape, kind, math.prod(shape), role)
    return shapes.values[name]


_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "DequantizeLinear")


def _views(call: Call, node: Any, shapes: _Shapes) -> None:
    """Results that are their first input under another shape. A dequantized tensor exists where its quantized one does."""
    if call.name in _VIEWS and call.args and call.results and isinstance(call.args[0], Value):
        source, made = call.args[0], call.results[0]
        shapes.values[node.output[0]] = Value(source.id, made.shape, source.format, source.whole, source.role)


def _main_format(constants: Mapping[str, Any]) -> str:
    """The format of most floating-point weights; fp32 for a graph whose weights are all quantized."""
    counts: dict[str, int] = {}
    for tensor in constants.values():
        kind = _TYPES.get(tensor.data_type, "fp32")
        if kind in ("fp32", "fp16", "bf16", "fp64"):
            counts[kind] = counts.get(kind, 0) + math.prod(tensor.dims)
    return max(counts, key=lambda name: counts[name], default="fp32")


def _parameters(constants: Mapping[str, Any]) -> dict[str, float]:
    """Weights by the path that their name spells; constants of shapes and indices are none."""
    found: dict[str, float] = {}
    for name, tensor in constants.items():
        if _TYPES.get(tensor.data_type, "fp32") in ("int64", "bool") or not tensor.dims:
            continue
        label = re.sub(r"\.(\d+)(?=\.|$)", r".*", name.rpartition(".")[0] or name)
        found[label] = found.get(label, 0.0) + float(math.prod(tensor.dims))
    return found
