"""Groups of captured kernels as ops: what they read and write at the given sizes and in the given formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.captured.formula import Size, value
from ridgepoint.models.networks.captured.fusion import groups
from ridgepoint.models.networks.captured.graph import ELEMENT_BYTES, Graph, Kernel, Tensor
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Collective, Conv, Gemm, Scan, Stream
from ridgepoint.work import Op, Overlap, Repeat, Seq, Work


@dataclass(frozen=True, kw_only=True)
class Unknown(Op):
    """A call that no rule gives meaning to: only what it reads and writes is known. No kernel model has this kind, so that
    it is timed by its bytes and listed with its share.
    """

    kind: ClassVar[str] = "unknown"
    read_bytes: Num
    write_bytes: Num
    call: str = ""


Part = tuple[Work, bool]
"""Work, and whether it runs beside the others."""


@dataclass(frozen=True)
class Formats:
    """What the formats of a capture become: its ``main`` format is replaced by ``acts``, in parameters by ``weights``."""

    main: str
    acts: str
    weights: str

    def of(self, tensor: Tensor) -> str:
        """The format that a tensor is kept in."""
        if tensor.format != self.main:
            return tensor.format
        return self.weights if tensor.role == "parameter" else self.acts

    def bytes(self, tensor: Tensor) -> float:
        """Bytes of one element of a tensor."""
        name = self.of(tensor)
        return FORMATS[name].bytes if name in FORMATS else ELEMENT_BYTES[name]


@dataclass
class Evaluation:
    """A graph at given sizes: every formula is computed once."""

    graph: Graph
    sizes: Mapping[str, Num]
    formats: Formats
    fused: bool
    _values: dict[str, Num] = field(default_factory=dict)

    def num(self, size: Size) -> Num:
        """The value of a size."""
        if not isinstance(size, str):
            return float(size)
        if size not in self._values:
            self._values[size] = value(size, self.sizes)
        return self._values[size]

    def tensor_bytes(self, at: int) -> Num:
        """Bytes of a tensor."""
        tensor = self.graph.tensors[at]
        return self.num(tensor.elements) * self.formats.bytes(tensor)

    def passes(self) -> tuple[Work, Work | None]:
        """Forward, and backward where the graph has one."""
        forward, back = list[Part](), list[Part]()
        for times, members in self.runs():
            op = self._op(members)
            beside = bool(self.graph.kernels[members[0]].options.get("beside"))
            part = (op if times == 1.0 else Repeat(times, op), beside)
            (forward if members[0] < self.graph.turn else back).append(part)
        return _together(forward), _together(back) if self.graph.backward >= 0 else None

    def runs(self) -> Iterator[tuple[float, list[int]]]:
        """Kernels that run as one, and how often."""
        for members in groups(self.graph, self.fused):
            yield self.graph.times(members[0]), members

    def _op(self, members: list[int]) -> Op:
        kernels = [self.graph.kernels[at] for at in members]
        if len(kernels) == 1 and kernels[0].kind != "stream":
            kernel = kernels[0]
            return _MAKERS.get(kernel.kind, _unknown)(self, kernel)
        return self._stream(kernels)

    def moved(self, kernels: list[Kernel]) -> tuple[Num, Num]:
        """Bytes that kernels which run as one read and write: nothing for what only they know."""
        made = {t for k in kernels for t in k.writes}
        read: dict[int, dict[int, Size]] = {}
        for kernel in kernels:
            for tensor, elements, part in kernel.reads:
                if tensor not in made:
                    parts = read.setdefault(tensor, {})
                    parts[part] = elements if part not in parts else self._larger(parts[part], elements)
        reads = sum((self._together(t, parts) * self._element(t) for t, parts in read.items()), 0.0)
        last = {id(k) for k in kernels}
        writes = sum((self.tensor_bytes(t) for k in kernels for t in k.writes if self._leaves(t, last)), 0.0)
        return reads, writes

    def _element(self, at: int) -> float:
        return self.formats.bytes(self.graph.tensors[at])

    def _larger(self, a: Size, b: Size) -> Size:
        return a if a == b or np.all(np.asarray(self.num(a)) >= self.num(b)) else b

    def _together(self, tensor: int, parts: Mapping[int, Size]) -> Num:
        """Elements of a tensor that its parts cover, as if they did not overlap, but never more than it has."""
        if len(parts) == 1:
            return self.num(next(iter(parts.values())))
        covered = sum((self.num(size) for size in parts.values()), 0.0)
        return np.minimum(covered, self.num(self.graph.tensors[tensor].elements))

    def _leaves(self, tensor: int, inside: set[int]) -> bool:
        """Whether a tensor is used by any other kernel, or after the pass."""
        if self.graph.tensors[tensor].role != "activation":
            return True
        readers = self._readers().get(tensor, ())
        return not readers or any(id(k) not in inside for k in readers)

    def _readers(self) -> dict[int, list[Kernel]]:
        if not hasattr(self, "_found"):
            self._found: dict[int, list[Kernel]] = {}
            for kernel in self.graph.kernels:
                for tensor, *_ in kernel.reads:
                    self._found.setdefault(tensor, []).append(kernel)
        return self._found

    def _stream(self, kernels: list[Kernel]) -> Stream:
        reads, writes = self.moved(kernels)
        if kernels[0].options.get("appends"):
            writes = reads
        shaping = next((k for k in kernels if k.options.get("pattern") in ("softmax", "norm")), None)
        chief = shaping or kernels[-1]
        special = sum((self.num(k.sizes.get("special", 0.0)) for k in kernels), 0.0)
        rows = self.num(chief.sizes.get("rows", 0.0)) if shaping else 0.0
        return Stream(
            read_bytes=plain(reads),
            write_bytes=plain(writes),
            flop=sum((self.num(k.sizes.get("flop", 0.0)) for k in kernels), 0.0),
            special=special,
            pattern=_pattern(kernels),
            rows=rows,
            launches=chief.options.get("launches", 1.0) if len(kernels) == 1 else 1.0,
            saved_bytes=plain(reads) if shaping or np.any(np.asarray(special) > 0.0) else 0.0,
            label=chief.label,
        )

    def format_of(self, kernel: Kernel, read: int) -> str:
        """The format of a read operand, by position, as a number format."""
        return _number_format(self.formats.of(self.graph.tensors[kernel.reads[read][0]]))

    def format_out(self, kernel: Kernel) -> str:
        """The format of the first result."""
        return _number_format(self.formats.of(self.graph.tensors[kernel.writes[0]])) if kernel.writes else "fp32"

    def fields(self, kernel: Kernel) -> dict[str, Any]:
        """A kernel's sizes at the given sizes, and its options."""
        return {name: self.num(size) for name, size in kernel.sizes.items()} | kernel.options


def _together(parts: list[Part]) -> Work:
    """Parts in order; what runs beside the computation (gathers ahead, reductions behind) at the same time as it, but for
    the first and the last of it, which have nothing to hide behind.
    """
    beside = [at for at, (_, hidden) in enumerate(parts) if hidden][1:-1]
    if not beside:
        return Seq(*(work for work, _ in parts))
    main = [work for at, (work, _) in enumerate(parts) if at not in beside]
    return Overlap(Seq(*main), Seq(*(parts[at][0] for at in beside)))


def _pattern(kernels: list[Kernel]) -> str:
    """The pattern of kernels that run as one: that of the reduction among them, else of a look-up, else elementwise."""
    patterns = [str(k.options.get("pattern", "elementwise")) for k in kernels]
    if len(set(patterns)) == 1:
        return patterns[0]
    exponential = any(k.options.get("exponential") for k in kernels)
    if exponential and ("norm" in patterns or "softmax" in patterns):
        return "softmax"
    return next((p for p in ("softmax", "norm", "gather", "sample") if p in patterns), "elementwise")


def _number_format(name: str) -> str:
    """A format that products have rules for; what they lack (complex numbers, wide integers) counts as fp32."""
    return name if name in FORMATS else "fp32"


def _gemm(at: Evaluation, kernel: Kernel) -> Op:
    acts, weights = at.format_of(kernel, 0), at.format_of(kernel, 1)
    fields = at.fields(kernel)
    if "groups" in fields:  # rows that are dealt out by chance leave some groups without any
        rows, count = fields.pop("rows"), fields.pop("groups")
        fields["batch"] = plain(count * (1.0 - (1.0 - 1.0 / count) ** rows))
        fields["m"] = plain(rows / fields["batch"])
    return Gemm(**fields, acts=acts, weights=weights, out=at.format_out(kernel), label=kernel.label)


def _conv(at: Evaluation, kernel: Kernel) -> Op:
    acts, weights = at.format_of(kernel, 0), at.format_of(kernel, 1)
    return Conv(**at.fields(kernel), acts=acts, weights=weights, label=kernel.label)


def _attention(at: Evaluation, kernel: Kernel) -> Op:
    acts, kv = at.format_of(kernel, 0), at.format_of(kernel, 1)
    return Attention(**at.fields(kernel), acts=acts, kv=kv, label=kernel.label)


def _scan(at: Evaluation, kernel: Kernel) -> Op:
    return Scan(**at.fields(kernel), acts=at.format_of(kernel, 0), label=kernel.label)


def _collective(at: Evaluation, kernel: Kernel) -> Op:
    fields = at.fields(kernel)
    fields.pop("beside", None)
    size = fields.pop("elements") * at.formats.bytes(at.graph.tensors[kernel.reads[0][0]])
    return Collective(**fields, bytes=size, label=kernel.label)


def _unknown(at: Evaluation, kernel: Kernel) -> Op:
    reads, _ = at.moved([kernel])
    writes = sum((at.tensor_bytes(t) for t in kernel.writes), 0.0)
    said = kernel.label if kernel.call.strip("_") in kernel.label else f"{kernel.label} {kernel.call}".strip()
    return Unknown(read_bytes=plain(reads), write_bytes=plain(writes), call=kernel.call, label=said)


_MAKERS: dict[str, Callable[[Evaluation, Kernel], Op]] = {
    "gemm": _gemm,
    "conv": _conv,
    "attention": _attention,
    "scan": _scan,
    "collective": _collective,
}
