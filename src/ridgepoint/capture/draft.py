"""Drafts: kernels with plain numbers, as the rules make them; a program of drafts becomes a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ridgepoint.capture.calls import Call, Value, larger, number
from ridgepoint.models.networks.captured.formula import Size
from ridgepoint.models.networks.captured.graph import Graph, Kernel, Span, Tensor


@dataclass(frozen=True)
class Draft:
    """One kernel of one call; fields as in ``Kernel``. ``suffix`` tells several kernels of a call apart."""

    kind: str
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    sizes: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    space: float = 0.0
    suffix: str = ""


def stream(
    call: Call,
    pattern: str = "elementwise",
    flop: float = 0.0,
    special: float = 0.0,
    rows: float = 0.0,
    reads: tuple[Value, ...] | None = None,
    writes: tuple[Value, ...] | None = None,
    space: float | None = None,
    fuses: bool = True,
    **options: Any,
) -> Draft:
    """A memory-bound kernel: it reads its inputs and writes its results; ``flop`` and ``special`` are totals."""
    made = call.results if writes is None else writes
    given = call.inputs if reads is None else reads
    points = larger(0, *(v.elements for v in made)) if space is None else space
    sizes = {"flop": number(flop), "special": number(special), "rows": number(rows)}
    named = {"pattern": pattern, "fuses": fuses, **options}
    return Draft(
        "stream",
        given,
        made,
        {name: size for name, size in sizes.items() if size},
        {name: value for name, value in named.items() if value not in (False, "elementwise")},
        number(points),
    )


@dataclass
class Program:
    """Drafts in order, with what is known of their tensors."""

    drafts: list[tuple[Call, Draft]] = field(default_factory=list)
    roles: dict[int, str] = field(default_factory=dict)
    over: dict[int, int] = field(default_factory=dict)
    values: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Tensor → (elements, format)."""

    def graph(self, spans: Iterable[Span] = (), size: Callable[[Any], Size] = float) -> Graph:
        """The program as a graph of only the tensors that its kernels use; ``size`` writes a number or a formula."""
        used: dict[int, int] = {}
        for _, draft in self.drafts:
            for value in (*draft.reads, *draft.writes):
                used.setdefault(value.id, len(used))
        for tensor in list(used):
            while (tensor := self.over.get(tensor, -1)) >= 0:
                used.setdefault(tensor, len(used))
        tensors = tuple(
            Tensor(
                size(self.values[t][0]),
                self.values[t][1],
                self.roles.get(t, "activation"),
                used.get(self.over.get(t, -1), -1),
            )
            for t in used
        )
        parts: dict[tuple[int, Any], int] = {}
        kernels = tuple(_kernel(call, draft, used, parts, size) for call, draft in self.drafts)
        turn = next((at for at, (call, _) in enumerate(self.drafts) if call.backward), -1)
        return Graph(tensors, kernels, tuple(spans), turn)


def _kernel(
    call: Call, draft: Draft, used: dict[int, int], parts: dict[tuple[int, Any], int], size: Callable[[Any], Size]
) -> Kernel:
    reads = [(used[value.id], size(value.touched), _part(value, used, parts)) for value in draft.reads]
    return Kernel(
        kind=draft.kind,
        call=call.name,
        label=label(call, draft),
        reads=tuple(dict.fromkeys(reads) if draft.kind == "stream" else reads),
        writes=tuple(used[value.id] for value in draft.writes),
        sizes={name: size(number) for name, number in draft.sizes.items()},
        options=draft.options,
        space=size(draft.space),
        line=call.line,
    )


def _part(value: Value, used: dict[int, int], parts: dict[tuple[int, Any], int]) -> int:
    """Views of a tensor are numbered as they come."""
    known = sum(1 for tensor, _ in parts if tensor == used[value.id])
    return parts.setdefault((used[value.id], (*map(str, value.shape), value.part)), known)


def label(call: Call, draft: Draft) -> str:
    """Where a kernel stands: its module, and what it does where the module does several things.

    Gradients end as those of other works do.
    """
    words = [word for word in call.shown.split(".") if word]
    if not call.leaf or not words:
        words.append("attention" if draft.kind == "attention" else draft.options.get("operation", call.name.strip("_")))
    if call.backward:
        words.append(draft.suffix or "grad")
    elif draft.suffix:
        words.append(draft.suffix)
    return ".".join(words)
