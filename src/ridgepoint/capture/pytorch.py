"""A PyTorch module as captured passes: recorded at several sizes, fitted, checked at one size more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import msgspec

from ridgepoint.capture.distributed import group_of, local
from ridgepoint.capture.extra import needed
from ridgepoint.capture.fit import DifferentProgramsError, Sampled, fitted, holds
from ridgepoint.capture.kernels_as_calls import fused_attention
from ridgepoint.capture.stacks import shortened, spans
from ridgepoint.capture.tracer import Recorder
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.graph import Graph, Span

_BY_VALUE = (
    "item() on meta", "item() cannot be called", "Cannot access data", "aten::_local_scalar_dense", "aten::nonzero",
    "data-dependent", "torch.nonzero", "Cannot copy out of meta", "aten::equal", "is_nonzero", "aten::unique",
)  # fmt: skip
"""What PyTorch says where a program asks for the values of a tensor that has none."""
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


def parameter_counts(module: Any, shown: Mapping[str, str]) -> dict[str, float]:
    """Trained numbers by module, each tensor once."""
    found: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        label = shown.get(owner, owner) or name
        found[label] = found.get(label, 0.0) + float(local(parameter).numel())
    return found


def shown_paths(module: Any) -> dict[str, str]:
    """Every module's path as reports name it."""
    with shortened(module) as runs:
        starred = {run.path for run in runs}
    recorder = Recorder()
    recorder.name(module, starred)
    return recorder.shown


def main_format(module: Any) -> str:
    """The number format of most parameters."""
    from ridgepoint.capture.tracer import _format

    counts: dict[str, int] = {}
    for parameter in module.parameters():
        if parameter.is_floating_point():
            counts[_format(parameter)] = counts.get(_format(parameter), 0) + parameter.numel()
    return max(counts, key=lambda name: counts[name], default="fp32")


def record(subject: Subject, sizes: Mapping[str, int]) -> Graph:
    """One recording at given sizes.

    Errors: ``bad_capture`` with what the model's own code did, and what to do about it.
    """
    torch = needed("torch", "capturing a model")
    training = subject.task == "train"
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        subject.module.train(training)
        runs = stack.enter_context(shortened(subject.module)) if subject.shorten else []
        recorder = Recorder(group_of, subject.mode)
        recorder.name(subject.module, {run.path for run in runs})
        for tensor in (*subject.module.parameters(), *subject.module.buffers()):
            recorder.know(tensor, "parameter")
        stack.enter_context(subject.mode or nullcontext())
        stack.enter_context(torch.device("cpu" if subject.mode else "meta"))
        keywords, caches = subject.arguments(sizes)
        for tensor in _all_tensors(tuple(keywords.values()), torch):
            recorder.know(tensor, "input")
        for tensor in caches:
            recorder.know(tensor, "cache")
        stack.enter_context(subject.around())
        stack.enter_context(fused_attention())
        if not training:
            stack.enter_context(torch.no_grad())
        try:
            with recorder.watching():
                result = subject.module(**keywords)
                outputs = _all_tensors(result, torch)
                if training:
                    _backward(recorder, result, outputs, subject.module)
        except RidgepointError:
            raise
        except Exception as error:
            raise explained(error, subject, sizes) from error
        for tensor in outputs:
            recorder.know(tensor, "output")
        for tensor in caches:  # those that the model itself asked for while it ran
            recorder.know(tensor, "cache")
        return recorder.program.graph(_spans(recorder, runs))


def _spans(recorder: Recorder, runs: list[Any]) -> list[Span]:
    return spans([call for call, _ in recorder.program.drafts], runs)


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
    seed = None if loss.dim() == 0 else __import__("torch").empty_like(loss)
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


def explained(error: Exception, subject: Subject, sizes: Mapping[str, int]) -> RidgepointError:
    """What a failure of the model's own code means for the one who captures it."""
    text = " ".join(str(error).split())[:300]
    name = type(subject.module).__name__
    where = _where(error)
    if any(mark in text for mark in _BY_VALUE):
        return RidgepointError(
            "data_dependent",
            f"{name} decides by the values of a tensor{where}, which a capture without weights does not know",
            "make that part depend on shapes or on the configuration alone, or capture the modules around it",
        )
    if isinstance(error, TypeError) and "argument" in text:
        return RidgepointError(
            "bad_input",
            f"{name}.forward does not take these inputs: {text}",
            f"its parameters: {_parameters(subject.module)}",
        )
    if (
        "no fake impl" in text.lower()
        or "not implemented for" in text.lower()
        or "NotImplementedError" in type(error).__name__
    ):
        return RidgepointError(
            "custom_op",
            f"{name} calls an operator that has no shape rule{where}: {text[:120]}",
            "register one with torch.library.register_fake, then it is listed as unknown with its bytes",
        )
    at = ", ".join(f"{key} = {size}" for key, size in sizes.items())
    return RidgepointError(
        "bad_capture", f"{name} failed at {at}{where}: {type(error).__name__}: {text}", "check the inputs"
    )


def _where(error: Exception) -> str:
    """The last line of the model's own code in a traceback."""
    from ridgepoint.capture.tracer import _OWN

    step, found = error.__traceback__, ""
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not any(mark in file for mark in _OWN):
            found = f" in {file.rsplit('/', 1)[-1]}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _parameters(module: Any) -> str:
    import inspect

    return ", ".join(inspect.signature(module.forward).parameters) or "none"


def capture_pass(subject: Subject, say: Callable[[str], None] = lambda text: None) -> Pass:
    """The pass with formulas in as many of its sizes as they hold for; the rest stay as they usually are."""
    usual = {name: round(size) for name, size in subject.sizes.items()}
    start = {name: places(name, size)[0] for name, size in usual.items()}
    free, fixed, why = dict(usual), dict[str, int](), list[str]()
    for name in usual:
        say(f"does the program depend on {name}?")
        try:
            base = record(subject, {**start, **fixed})
            _alike_or_raise(base, record(subject, {**start, **fixed, name: places(name, usual[name])[1]}))
        except (RidgepointError, DifferentProgramsError) as error:
            fixed[name] = free.pop(name)
            why.append(f"{name} stays {fixed[name]} ({_short(error)})")
    if not free:
        method = "; ".join(["captured at fixed sizes", *why])
        return Pass(record(subject, usual), {}, {n: float(s) for n, s in fixed.items()}, method)
    for degree in (1, 2, 3):
        try:
            graph, failed, points, check = _fit(subject, free, fixed, degree)
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
        f"formulas in {', '.join(free)} through {points} captures, exact at "
        + ", ".join(f"{n} = {s:,}" for n, s in zip(free, check, strict=True))
        + ("; " + "; ".join(why) if why else "")
    )
    return Pass(
        _within_windows(graph), {n: float(s) for n, s in free.items()}, {n: float(s) for n, s in fixed.items()}, method
    )


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
    subject: Subject, free: dict[str, int], fixed: dict[str, int], degree: int
) -> tuple[Graph, str, int, tuple[int, ...]]:
    names = tuple(free)
    degrees = tuple(max(degree - 1, 1) if name == "batch" else degree for name in names)
    axes = [places(name, free[name])[: d + 1] for name, d in zip(names, degrees, strict=True)]
    samples = [
        Sampled(point, record(subject, {**fixed, **dict(zip(names, point, strict=True))})) for point in product(*axes)
    ]
    check = tuple(places(name, free[name])[-1] for name in names)
    last = Sampled(check, record(subject, {**fixed, **dict(zip(names, check, strict=True))}))
    graph = fitted(names, samples, degrees)
    return graph, holds(graph, names, last), len(samples), check


def spec_arguments(inputs: Iterable[Any]) -> Callable[[Mapping[str, int]], Arguments]:
    """Inputs as they were written, for given sizes."""
    torch = needed("torch", "capturing a model")
    given = tuple(inputs)

    def arguments(sizes: Mapping[str, int]) -> Arguments:
        numbers = {name: float(size) for name, size in sizes.items()}
        made = {i.name: torch.empty(i.shape(numbers), dtype=getattr(torch, i.type)) for i in given}
        return made, []

    return arguments
