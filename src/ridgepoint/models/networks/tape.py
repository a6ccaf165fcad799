"""A tape on which network families are written like forward passes: it records the work and counts the parameters.

A family is a function of a tape, a configuration and the input sizes; every size may be an array over a sweep.

>>> tape = Tape(batch=1.0)
>>> with tape.scope("stem"):
...     x = tape.activate(tape.norm(tape.conv(tape.image(3, 224, 224), 64, 7, stride=2)))
>>> x.channels, x.height, tape.total_parameters
(64.0, 112.0, 9536.0)
>>> round(tape.macs / 1e6, 1)
118.0
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.backward import UNTRAINED
from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Conv, Gemm, Scan, Stream
from ridgepoint.work import Op, Repeat, Seq, Work, occurrences

MATRIX_KINDS = ("gemm", "conv", "attention")


Data = TypeVar("Data", Map, Rows)


@dataclass(frozen=True)
class Stated:
    """What a captured pass states itself: bytes that live at once, bytes of its caches, its own backward pass."""

    peak_bytes: Num
    cache_bytes: Num = 0.0
    backward: Work | None = None


class Tape:
    """Records ops and parameters while a family's forward function runs.

    Elementwise steps (norms over the batch, activations, additions, scalings) are kernels of their own in eager mode; with
    ``fused`` a chain of them is one pass over the data. ``acts`` and ``weights`` are number formats.
    """

    def __init__(
        self, batch: Num, acts: str = "fp16", weights: str = "fp16", fused: bool = True, attention: bool = True
    ):
        self.batch = batch
        self.acts = acts
        self.weights = weights
        self.fused = fused
        self.fused_attention = attention
        self.parameters: dict[str, float] = {}
        self.sparse_parameters = 0.0
        self.untrained_parameters = 0.0
        self.task = "forward"
        self.stated: Stated | None = None
        self._parts: list[Work] = []
        self._path: list[str] = []
        self._chain: Stream | None = None
        self._times = 1.0
        self._trained = True

    # --- recording -------------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Labels inside carry ``name`` as a prefix."""
        self._path.append(name)
        try:
            yield
        finally:
            self._path.pop()

    def repeat(self, count: int, block: Callable[[Data], Data], x: Data) -> Data:
        """``block`` applied ``count`` times to data whose shape it keeps; recorded once. Each time has weights of its own."""
        if count <= 0:
            return x
        self._times *= count
        result = self.again(float(count), block, x)
        self._times /= count
        return result

    def again(self, count: Num, block: Callable[[Data], Data], x: Data) -> Data:
        """``block`` applied ``count`` times with the same weights (decoding, denoising); recorded and counted once."""
        self._flush()
        outer, self._parts = self._parts, []
        result = block(x)
        self._flush()
        outer.append(Repeat(count, Seq(*self._parts)))
        self._parts = outer
        return result

    def untrained(self, block: Callable[[Data], Data], x: Data) -> Data:
        """``block`` with weights that training leaves as they are, and with nothing trained before it: it has no backward
        pass and keeps only its result.
        """
        self._flush()
        outer, self._parts, self._trained = self._parts, [], False
        result = block(x)
        self._flush()
        outer.append(Seq(*self._parts, label=UNTRAINED))
        self._parts, self._trained = outer, True
        return result

    def label(self, name: str) -> str:
        """The dotted label of ``name`` in the present scope."""
        return ".".join([*self._path, name])

    def record(self, op: Op) -> None:
        """Adds an op as it is."""
        self._flush()
        self._parts.append(op)

    def play_work(self, work: Work) -> None:
        """Adds a whole work as it is."""
        self._flush()
        self._parts.append(work)

    def count(self, name: str, parameters: Num) -> None:
        """Adds trained parameters under the present scope."""
        label = self.label(name)
        own = self._times * _size(parameters)
        self.parameters[label] = self.parameters.get(label, 0.0) + own
        self.untrained_parameters += 0.0 if self._trained else own

    def _flush(self) -> None:
        if self._chain is not None:
            self._parts.append(self._chain)
            self._chain = None

    def _pass(
        self,
        name: str,
        values: Num,
        reads: Num = 1.0,
        flop: Num = 1.0,
        special: Num = 0.0,
        saved: Num = 0.0,
        pattern: str = "elementwise",
    ) -> None:
        """An elementwise step over ``values`` results that reads ``reads`` inputs for each."""
        width = FORMATS[self.acts].bytes
        step = Stream(
            read_bytes=reads * values * width,
            write_bytes=values * width,
            flop=flop * values,
            special=special * values,
            saved_bytes=saved * values * width,
            pattern=pattern,
            label=self.label(name),
        )
        chain = self._chain
        if not self.fused or chain is None:
            self._flush()
            self._chain = step
            return
        # A chain reads its first input and the further inputs of later steps, and writes the last result.
        self._chain = replace(
            chain,
            read_bytes=chain.read_bytes + step.read_bytes - values * width,
            write_bytes=step.write_bytes,
            flop=chain.flop + step.flop,
            special=chain.special + step.special,
            saved_bytes=chain.saved_bytes + step.saved_bytes,
        )

    # --- results ---------------------------------------------------------------------------------------------------

    @property
    def work(self) -> Work:
        """Everything recorded so far."""
        self._flush()
        return Seq(*self._parts)

    @property
    def total_parameters(self) -> float:
        """All parameters."""
        return sum(self.parameters.values(), 0.0)

    @property
    def macs(self) -> Num:
        """Multiply-adds of matrix products, convolutions and attention."""
        return matrix_flop(self.work) / 2.0

    # --- inputs ----------------------------------------------------------------------------------------------------

    def image(self, channels: Num, height: Num, width: Num, depth: Num = 1.0) -> Map:
        """The input images (or volumes, or latents)."""
        return Map(
            self.batch, float(channels) if np.ndim(channels) == 0 else channels, _num(height), _num(width), _num(depth)
        )

    def rows(self, length: Num, channels: Num) -> Rows:
        """Input rows per sample."""
        return Rows(self.batch, _num(length), _num(channels))

    # --- products --------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: Map,
        out: Num,
        kernel: int | tuple[int, int],
        stride: int = 1,
        groups: Num = 1,
        bias: bool = False,
        pad: int | tuple[int, int] | None = None,
        dilation: int = 1,
        name: str = "conv",
        counted: bool = True,
    ) -> Map:
        """A 2-D convolution (frames of ``depth`` go along with the batch); padding keeps the size unless given.

        ``counted`` False is a fixed filter, or weights that another call counted.
        """
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        ph, pw = ((kh - 1) * dilation // 2, (kw - 1) * dilation // 2) if pad is None else _pair(pad)
        op = Conv(
            batch=x.batch * x.depth,
            c_in=x.channels,
            c_out=_num(out),
            h=x.height,
            w=x.width,
            kh=float(kh),
            kw=float(kw),
            stride=float(stride),
            pad_h=ph + 0.0 if dilation == 1 else ph - (kh - 1) * (dilation - 1) / 2.0,
            pad_w=pw + 0.0 if dilation == 1 else pw - (kw - 1) * (dilation - 1) / 2.0,
            groups=_num(groups),
            acts=self.acts,
            weights=self.weights,
            label=self.label(name),
        )
        self.record(op)
        if counted:
            self.count(name, _size(op.c_in / op.groups * op.c_out * kh * kw) + (_size(op.c_out) if bias else 0.0))
        height = np.floor((x.height + 2.0 * ph - dilation * (kh - 1) - 1.0) / stride) + 1.0
        width = np.floor((x.width + 2.0 * pw - dilation * (kw - 1) - 1.0) / stride) + 1.0
        return Map(x.batch, _num(out), _num(height), _num(width), x.depth)

    def transposed_conv(
        self, x: Map, out: Num, kernel: int, stride: int, bias: bool = True, name: str = "up_conv"
    ) -> Map:
        """A transposed convolution that enlarges by ``stride``: every input position meets every filter value once."""
        product = Gemm(
            m=x.batch * x.depth * x.height * x.width,
            n=_num(out) * kernel * kernel,
            k=x.channels,
            acts=self.acts,
            weights=self.weights,
            out=self.acts,
            label=self.label(name),
        )
        self.record(product)
        self.count(name, _size(x.channels * out * kernel * kernel) + (_size(out) if bias else 0.0))
        return Map(x.batch, _num(out), x.height * stride, x.width * stride, x.depth)

    def conv3d(self, x: Map, out: Num, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1),
               bias: bool = True, groups: Num = 1.0, name: str = "conv3d") -> Map:  # fmt: skip
        """A 3-D convolution; padding keeps the size. ``groups`` only without stride.

        Without stride it is recorded as a 2-D one over depth × height by width: the same products, and the input is read
        once. With stride (patches that hardly overlap) it is the product over gathered patches.
        """
        kd, kh, kw = (float(size) for size in kernel)
        depth, height, width = (np.ceil(size / s) for size, s in zip((x.depth, x.height, x.width), stride, strict=True))
        result = Map(x.batch, _num(out), _num(height), _num(width), _num(depth))
        op: Op
        if stride == (1, 1, 1):
            tall = kd * kh
            op = Conv(
                batch=x.batch,
                c_in=x.channels,
                c_out=_num(out),
                h=x.depth * x.height,
                w=x.width,
                kh=tall,
                kw=kw,
                pad_h=(tall - 1.0) / 2.0,
                pad_w=(kw - 1.0) / 2.0,
                groups=_num(groups),
                acts=self.acts,
                weights=self.weights,
                label=self.label(name),
            )
        else:
            op = Gemm(
                m=result.batch * result.positions,
                n=_num(out),
                k=x.channels * kd * kh * kw,
                acts=self.acts,
                weights=self.weights,
                out=self.acts,
                label=self.label(name),
            )
        self.record(op)
        self.count(name, _size(x.channels / groups * out * kd * kh * kw) + (_size(out) if bias else 0.0))
        return result

    def linear(self, x: Rows, out: Num, bias: bool = True, name: str = "linear", counted: bool = True) -> Rows:
        """A projection of every row; ``counted`` False reuses weights that another call counted."""
        op = Gemm(
            m=x.rows,
            n=_num(out),
            k=x.channels,
            acts=self.acts,
            weights=self.weights,
            out=self.acts,
            label=self.label(name),
        )
        self.record(op)
        if counted:
            self.count(name, _size(x.channels * out) + (_size(out) if bias else 0.0))
        return replace(x, channels=_num(out))

    def matmul(self, m: Num, n: Num, k: Num, batch: Num = 1.0, name: str = "matmul") -> None:
        """A product without trained weights."""
        self.record(
            Gemm(m=m, n=n, k=k, batch=batch, acts=self.acts, weights=self.acts, out=self.acts, label=self.label(name))
        )

    def attend(
        self,
        queries: Rows,
        keys: Rows,
        heads: Num,
        head_dim: Num,
        kv_heads: Num | None = None,
        causal: bool = False,
        window: Num = 0.0,
        name: str = "attention",
    ) -> Rows:
        """Softmax attention between projected rows, as one kernel, or as three when attention is not fused."""
        kv = _num(heads if kv_heads is None else kv_heads)
        width = _num(heads * head_dim)
        if self.fused_attention:
            op = Attention(
                batch=queries.batch,
                heads=_num(heads),
                kv_heads=kv,
                q_len=queries.length,
                kv_len=keys.length,
                head_dim=_num(head_dim),
                causal=causal,
                window=window,
                acts=self.acts,
                kv=self.acts,
                label=self.label(name),
            )
            self.record(op)
            return replace(queries, channels=width)
        pairs = queries.batch * heads
        with self.scope(name):
            self.matmul(queries.length, keys.length, _num(head_dim), pairs, "scores")
            self.softmax(pairs * queries.length, keys.length)
            self.matmul(queries.length, _num(head_dim), keys.length, pairs, "values")
        return replace(queries, channels=width)

    # --- memory-bound steps ----------------------------------------------------------------------------------------

    def norm(self, x: Data, kind: str = "batch", affine: bool = True, name: str = "norm") -> Data:
        """``batch`` (elementwise in inference; ``frozen``: one that is not trained, and keeps nothing), or ``layer``,
        ``group``, ``rms``: a reduction over each row or group.
        """
        affine = affine and kind != "frozen"
        if affine:
            self.count(name, _size(x.channels) * (1.0 if kind == "rms" else 2.0))
        if kind in ("batch", "frozen"):
            saved = 0.0 if kind == "frozen" else 1.0
            self._pass(name, x.values, flop=2.0, saved=saved, pattern="batch_norm" if affine else "elementwise")
            return x
        size = x.values * FORMATS[self.acts].bytes
        rows = _normed_rows(x, kind)
        self.record(
            Stream(
                read_bytes=size,
                write_bytes=size,
                flop=5.0 * x.values,
                special=rows,
                pattern="layer_norm",
                rows=rows,
                saved_bytes=size,
                label=self.label(name),
            )
        )
        return x

    def activate(self, x: Data, special: float = 0.0, flop: float = 1.0, name: str = "act", kept: float = 1.0) -> Data:
        """An activation: ReLU by default; SiLU, GELU, sigmoid have ``special`` = 1. ``kept``: tensors of this size that stay
        for the backward pass; 2 where the product before it read one that no other step keeps.
        """
        self._pass(name, x.values, flop=flop + 3.0 * special, special=special, saved=kept)
        return x

    def add(self, x: Data, name: str = "add", kept: float = 0.0) -> Data:
        """Adds another tensor of the same shape. ``kept``: 1 where a product reads the sum."""
        self._pass(name, x.values, reads=2.0, saved=kept)
        return x

    def multiply(self, x: Data, name: str = "multiply") -> Data:
        """Multiplies by another tensor of the same shape."""
        self._pass(name, x.values, reads=2.0, saved=2.0)
        return x

    def scale(self, x: Data, name: str = "scale") -> Data:
        """Multiplies by one value per channel or row (layer scale, modulation, squeeze-and-excitation)."""
        self._pass(name, x.values, saved=1.0)
        return x

    def softmax(self, rows: Num, width: Num, name: str = "softmax") -> None:
        """Softmax of ``rows`` rows of ``width`` values."""
        size = rows * width * FORMATS[self.acts].bytes
        self.record(
            Stream(
                read_bytes=size,
                write_bytes=size,
                flop=5.0 * rows * width,
                special=rows * width,
                pattern="softmax",
                rows=rows,
                saved_bytes=size,
                label=self.label(name),
            )
        )

    def pool(self, x: Map, kernel: int, stride: int, pad: int = 0, name: str = "pool") -> Map:
        """Maximum or average over windows."""
        height = np.floor((x.height + 2 * pad - kernel) / stride) + 1.0
        width = np.floor((x.width + 2 * pad - kernel) / stride) + 1.0
        result = replace(x, height=_num(height), width=_num(width))
        size = FORMATS[self.acts].bytes
        self.record(
            Stream(
                read_bytes=x.values * size,
                write_bytes=result.values * size,
                flop=result.values * kernel * kernel,
                saved_bytes=x.values * size,
                label=self.label(name),
            )
        )
        return result

    def global_pool(self, x: Map | Rows, name: str = "pool") -> Rows:
        """The mean over all positions: one row per sample."""
        size = FORMATS[self.acts].bytes
        result = Rows(x.batch, 1.0, x.channels)
        self.record(
            Stream(
                read_bytes=x.values * size,
                write_bytes=result.values * size,
                flop=x.values,
                rows=x.batch * x.channels,
                label=self.label(name),
            )
        )
        return result

    def move(self, x: Data, written: Num | None = None, name: str = "copy", kept: float = 0.0) -> Data:
        """A pass that only moves data (concatenation, window partition, transposition, upsampling to ``written`` values).
        ``kept``: 1 where a product reads the result.
        """
        size = FORMATS[self.acts].bytes
        out = (x.values if written is None else written) * size
        self.record(
            Stream(
                read_bytes=x.values * size,
                write_bytes=out,
                saved_bytes=kept * out,
                pattern="permute",
                label=self.label(name),
            )
        )
        return x

    def gather(self, rows: Num, width: Num, name: str = "gather", table: float = 0.0, sparse: bool = False) -> Rows:
        """Rows of ``width`` values looked up in a table; ``table`` counts its parameters.

        ``sparse``: training changes only the rows that were looked up (recommendation).
        """
        size = rows * width * FORMATS[self.acts].bytes
        self.record(Stream(read_bytes=size, write_bytes=size, pattern="gather", label=self.label(name)))
        self.count(name, table)
        self.sparse_parameters += self._times * table if sparse else 0.0
        return Rows(self.batch, rows / self.batch, _num(width))

    def scan(self, x: Rows, heads: Num, head_dim: Num, state_dim: Num, variant: str, name: str = "scan") -> Rows:
        """A recurrent pass along the rows of each sample."""
        op = Scan(
            batch=x.batch,
            seq=x.length,
            heads=_num(heads),
            head_dim=_num(head_dim),
            state_dim=_num(state_dim),
            variant=variant,
            acts=self.acts,
            label=self.label(name),
        )
        self.record(op)
        return replace(x, channels=_num(heads * head_dim))

    # --- shapes ----------------------------------------------------------------------------------------------------

    def to_rows(self, x: Map) -> Rows:
        """Positions as rows (no kernel: a view)."""
        return Rows(x.batch, x.positions, x.channels)

    def to_map(self, x: Rows, height: Num, width: Num, depth: Num = 1.0) -> Map:
        """Rows as a feature map (a view)."""
        return Map(x.batch, x.channels, _num(height), _num(width), _num(depth))


def matrix_flop(work: Work) -> Num:
    """FLOPs of products, convolutions and attention in ``work``."""
    return sum((times * rules_of(op).flop(op) for op, times in occurrences(work) if op.kind in MATRIX_KINDS), 0.0)


def _normed_rows(x: Map | Rows, kind: str) -> Num:
    """Rows or groups that a norm reduces over; group norms have 32 groups by custom."""
    return x.batch * 32.0 if isinstance(x, Map) and kind == "group" else x.values / x.channels


def _num(value: Num) -> Num:
    return float(value) if np.ndim(value) == 0 else value


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _size(value: Num) -> float:
    """A parameter count: the same at every point of a sweep."""
    return value if isinstance(value, float) else float(np.max(value))
