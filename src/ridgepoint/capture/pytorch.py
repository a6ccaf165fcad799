"""A PyTorch module as captured passes: recorded at several sizes, fitted, checked at one size more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import msgspec

from ridgepoint.capture.distributed import group_of
from ridgepoint.capture.extra import needed
from ridgepoint.capture.failures import explained
from ridgepoint.capture.fit import DifferentProgramsError, Sampled, fitted, holds
from ridgepoint.capture.kernels_as_calls import kept_whole
from ridgepoint.capture.stacks import shortened, spans
from ridgepoint.capture.symbolic import NotSymbolicError, Symbols, unlogged
from ridgepoint.capture.tracer import Recorder
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.graph import Graph

LENGTHS = ("seq", "prompt", "context")
Arguments = tuple[dict[str, Any], list[Any]]
"""Keyword arguments of the module's forward function, and those tensors among them that are a cache."""


@dataclass(frozen=True)
class Subject:
    """What is captured: a module on the meta device, its inputs for given sizes, and the task.

    ``around`` is entered for every recording; ``mode`` is the one that the module's tensors pretend to be real under, if
    they do.
    """

    module: Any
    arguments: Callable[[Mapping[str, int]], Arguments]
    sizes: dict[str, float]
    task: str = "forward"
    around: Callable[[], Any] = nullcontext
    shorten: bool = True
    mode: Any = None


@dataclass
class Pass:
    """A captured pass: its graph, which sizes its formulas hold for, and how they were found."""

    graph: Graph
    sizes: dict[str, float]
    fixed: dict[str, float] = field(default_factory=dict)
    method: str = ""


def record(subject: Subject, sizes: Mapping[str, int], symbols: Symbols | None = None) -> Graph:
    """One recording at given sizes, which may stand behind letters.

    Errors: ``bad_capture`` with what the model's own code did, and what to do about it.
    """
    torch = needed("torch", "capturing a model")
    training = subject.task == "train"
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        subject.module.train(training)
        runs = stack.enter_context(shortened(subject.module)) if subject.shorten else []
        mode = symbols.mode if symbols else subject.mode
        recorder = Recorder(group_of, mode, symbols.still if symbols else lambda: None)
        recorder.name(subject.module, {run.path for run in runs})
        for tensor in (*subject.module.parameters(), *subject.module.buffers()):
            recorder.know(tensor, "parameter")
        stack.enter_context(mode or nullcontext())
        stack.enter_context(unlogged())
        stack.enter_context(torch.device("cpu" if subject.mode else "meta"))
        keywords, caches = subject.arguments(symbols.sizes if symbols else sizes)
        for tensor in _all_tensors(tuple(keywords.values()), torch):
            recorder.know(tensor, "input")
        for tensor in caches:
            recorder.know(tensor, "cache")
        stack.enter_context(subject.around())
        stack.enter_context(kept_whole())
        if not training:
            stack.enter_context(torch.no_grad())
        try:
            with recorder.watching():
                result = subject.module(**keywords)
                outputs = _all_tensors(result, torch)
                if training:
                    _backward(recorder, result, outputs, subject.module)
        except (RidgepointError, NotSymbolicError):
            raise
        except Exception as error:
            raise explained(error, subject.module, sizes) from error
        for tensor in outputs:
            recorder.know(tensor, "output")
        for tensor in caches:  # those that the model itself asked for while it ran
            recorder.know(tensor, "cache")
        found = spans([call for call, _ in recorder.program.drafts], runs)
        return recorder.program.graph(found, symbols.formula if symbols else float)


def _backward(recorder: Recorder, result: Any, outputs: list[Any], module: Any) -> None:
    """From the model's own loss, or from the sum of its first floating-point output."""
    loss = getattr(result, "loss", None)
    if loss is None:
        loss = next((t for t in outputs if t.is_floating_point() and t.requires_grad), None)
        if loss is None:
            raise RidgepointError(
                "bad_capture", "no output of the model depends on its parameters", "capture it with --task forward"
            )
    recorder.backward = True
    seed = None if loss.dim() == 0 else needed("torch", "capturing a model").empty_like(loss)
    loss.backward(seed)
    for parameter in module.parameters():
        if parameter.grad is not None:
            recorder.know(parameter.grad, "gradient")
            parameter.grad = None


def _all_tensors(value: Any, torch: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in _all_tensors(item, torch)]
    if isinstance(value, tuple | list):
        return [t for item in value for t in _all_tensors(item, torch)]
    return []


def capture_pass(subject: Subject, say: Callable[[str], None] = lambda text: None) -> Pass:
    """The pass with formulas in as many of its sizes as they hold for; the rest stay as they usually are.

    One recording with letters for the sizes gives them, checked by one more with numbers; where the program has no such
    formulas, polynomials through recordings at several sizes.
    """
    try:
        found = _symbolic(subject, say)
    except NotSymbolicError as error:
        found = _fitted(subject, say)
        found.method += f"; not symbolic: {error}" + _rounding(subject, found)
    found.method += _at_one(subject, found)
    found.graph = _within_windows(found.graph)
    return found


def _at_one(subject: Subject, found: Pass) -> str:
    """What is other at a batch of one, whose tensors lie in memory differently, than the formulas say; empty if nothing is."""
    if "batch" not in found.sizes:
        return ""
    failed = _other(subject, found, {"batch": 1})
    return f"; at batch = 1 the program is another: {failed}" if failed else ""


def _rounding(subject: Subject, found: Pass) -> str:
    """What polynomials, which know no rounding, say otherwise than the program at a size that nothing divides."""
    odd = {name: round(size) + 1 for name, size in found.sizes.items() if name not in ("batch", *LENGTHS)}
    failed = _other(subject, found, odd) if odd else ""
    return f"; interpolated where the program rounds: {failed}" if failed else ""


def _other(subject: Subject, found: Pass, sizes: Mapping[str, int]) -> str:
    """The first thing that is other at these sizes than the formulas say; nothing where the program does not run there."""
    at = {name: round(size) for name, size in {**found.sizes, **found.fixed}.items()} | dict(sizes)
    names = tuple(found.sizes)
    try:
        return holds(found.graph, names, Sampled(tuple(at[n] for n in names), record(subject, at)))
    except RidgepointError:
        return ""


def _symbolic(subject: Subject, say: Callable[[str], None]) -> Pass:
    """Formulas by a symbolic recording.

    Errors: ``NotSymbolicError`` where the program has none, or where a recording with numbers does not agree.
    """
    usual = {name: round(size) for name, size in subject.sizes.items()}
    if not usual or subject.mode is not None:
        raise NotSymbolicError("there are no sizes to vary" if not usual else "parameters are sharded")
    names = ", ".join(usual)
    say(f"recording with letters for {names}")
    symbols = Symbols({name: places(name, size)[-1] for name, size in usual.items()})
    try:
        graph = record(subject, usual, symbols)
    except RidgepointError as error:
        raise NotSymbolicError(error.message) from error
    graph = msgspec.structs.replace(graph, conditions=symbols.conditions())
    check = {name: places(name, size)[1] for name, size in usual.items()}
    say("checking by a recording with numbers")
    failed = holds(graph, tuple(check), Sampled(tuple(check.values()), record(subject, check)))
    if failed:
        raise NotSymbolicError(failed)
    method = f"formulas in {names} by one symbolic capture, exact at {_said(check)}"
    if graph.conditions:
        method += "; where " + " and ".join(graph.conditions)
    return Pass(graph, {n: float(s) for n, s in usual.items()}, {}, method)


def _said(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size:,}" for name, size in sizes.items())


class _Recordings:
    """Recordings of a subject, each made once."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._made: dict[tuple[int, ...], Graph] = {}

    def __call__(self, sizes: Mapping[str, int]) -> Graph:
        at = tuple(sizes[name] for name in self._subject.sizes)
        if at not in self._made:
            self._made[at] = record(self._subject, sizes)
        return self._made[at]


def _fitted(subject: Subject, say: Callable[[str], None]) -> Pass:
    """Polynomials through recordings at several sizes."""
    recorded = _Recordings(subject)
    usual = {name: round(size) for name, size in subject.sizes.items()}
    start = {name: places(name, size)[0] for name, size in usual.items()}
    free, fixed, why = dict(usual), dict[str, int](), list[str]()
    for name in usual:
        say(f"does the program depend on {name}?")
        try:
            base = recorded({**start, **fixed})
            _alike_or_raise(base, recorded({**start, **fixed, name: places(name, usual[name])[1]}))
        except (RidgepointError, DifferentProgramsError) as error:
            fixed[name] = free.pop(name)
            why.append(f"{name} stays {fixed[name]} ({_short(error)})")
    if not free:
        method = "; ".join(["captured at fixed sizes", *why])
        return Pass(recorded(usual), {}, {n: float(s) for n, s in fixed.items()}, method)
    for degree in (1, 2, 3):
        try:
            graph, failed, points, check = _fit(recorded, free, fixed, degree)
        except DifferentProgramsError as error:
            failed = str(error)
        if not failed:
            break
    else:
        raise RidgepointError(
            "bad_capture",
            f"no formula in {', '.join(free)} gives what was captured: {failed}",
            "write numbers in place of these names in --input",
        )
    method = (
        f"formulas in {', '.join(free)} through {points} captures, exact at {_said(dict(zip(free, check, strict=True)))}"
        + ("; " + "; ".join(why) if why else "")
    )
    return Pass(graph, {n: float(s) for n, s in free.items()}, {n: float(s) for n, s in fixed.items()}, method)


def _within_windows(graph: Graph) -> Graph:
    """Caches that only windowed attention reads hold no more than the window."""
    tensors = list(graph.tensors)
    for kernel in graph.kernels:
        window, keys = kernel.sizes.get("window"), kernel.sizes.get("kv_len")
        if kernel.kind != "attention" or window is None:
            continue
        for at, *_ in kernel.reads[1:3]:
            whole = graph.tensors[at].elements
            if graph.tensors[at].role == "cache" and tensors[at].elements == whole:
                most = f"min({whole}, ({whole})*{window}/({keys}))"
                tensors[at] = msgspec.structs.replace(graph.tensors[at], elements=most)
    return msgspec.structs.replace(graph, tensors=tuple(tensors))


def _short(error: Exception) -> str:
    return error.message if isinstance(error, RidgepointError) else f"another program at other sizes: {error}"


def _alike_or_raise(a: Graph, b: Graph) -> None:
    fitted(("x",), [Sampled((1,), a), Sampled((2,), b)], (1,))


def places(name: str, usual: int) -> tuple[int, ...]:
    """Values of a size at which a model is captured, the last for the check.

    Lengths stay within what is usual, for positions may end there; other sizes are multiples, for strides divide them.
    """
    if name == "batch":
        return 2, 3, 4, 5, 7
    if name in LENGTHS and usual >= 64:
        return tuple(usual // 8 * step for step in (2, 4, 6, 5, 8))
    return tuple(usual * step for step in (1, 2, 3, 4, 6))


def _fit(
    recorded: _Recordings, free: dict[str, int], fixed: dict[str, int], degree: int
) -> tuple[Graph, str, int, tuple[int, ...]]:
    names = tuple(free)
    degrees = tuple(max(degree - 1, 1) if name == "batch" else degree for name in names)
    axes = [places(name, free[name])[: d + 1] for name, d in zip(names, degrees, strict=True)]
    samples = [Sampled(point, recorded({**fixed, **dict(zip(names, point, strict=True))})) for point in product(*axes)]
    check = tuple(places(name, free[name])[-1] for name in names)
    last = Sampled(check, recorded({**fixed, **dict(zip(names, check, strict=True))}))
    graph = fitted(names, samples, degrees)
    return graph, holds(graph, names, last), len(samples), check


def spec_arguments(inputs: Iterable[Any]) -> Callable[[Mapping[str, int]], Arguments]:
    """Inputs as they were written, for given sizes."""
    torch = needed("torch", "capturing a model")
    given = tuple(inputs)

    def arguments(sizes: Mapping[str, int]) -> Arguments:
        made = {i.name: torch.empty(i.shape(sizes), dtype=getattr(torch, i.type)) for i in given}
        return made, []

    return arguments
