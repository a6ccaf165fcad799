"""From what a user names — ``FILE.py:factory``, ``hf:config.json``, ``FILE.onnx`` — to a work file's content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ridgepoint.capture.distributed import materialized, one_step, process_group, replicas
from ridgepoint.capture.extra import needed
from ridgepoint.capture.inputs import read_inputs
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.file import VERSION, WorkFile

Say = Callable[[str], None]


def is_code(name: str) -> bool:
    """Whether a model's name is code or a graph to capture, not a name in the catalogue.

    >>> is_code("my_model.py:build"), is_code("hf:config.json"), is_code("net.onnx"), is_code("llama-3.1-8b")
    (True, True, True, False)
    """
    file, colon, factory = name.rpartition(":")
    return name.startswith("hf:") or name.endswith(".onnx") or bool(colon and file.endswith(".py") and factory)


def capture(
    target: str, inputs: Sequence[str] = (), tasks: Sequence[str] = (), say: Say = lambda text: None, ranks: int = 1
) -> WorkFile:
    """What the code at ``target`` does, for the tasks (by default ``forward``; prefill and decode of a language model).

    With ``ranks`` > 1 a factory runs as the first of that many ranks, and may spread its module over them.

    Errors: ``bad_capture`` and others, each with what to do.
    """
    if target.startswith("hf:"):
        if inputs:
            raise RidgepointError(
                "bad_input", "--input is given", "a Hugging Face model has the inputs of its task: leave it out"
            )
        return _hugging_face(Path(target.removeprefix("hf:")).expanduser(), tasks, say)
    if target.endswith(".onnx"):
        if inputs:
            raise RidgepointError("bad_input", "--input is given", "an ONNX file states its own inputs: leave it out")
        from ridgepoint.capture.onnx_file import capture_onnx

        return capture_onnx(Path(target).expanduser(), tasks)
    if not is_code(target):
        raise RidgepointError(
            "bad_capture", f"'{target}' names nothing to capture", "give FILE.py:FACTORY, FILE.onnx or hf:CONFIG.json"
        )
    with process_group(ranks):
        work = _program(target, inputs, tasks or ("forward",), say)
        return msgspec.structs.replace(work, ranks=float(ranks))


def _program(target: str, inputs: Sequence[str], tasks: Sequence[str], say: Say) -> WorkFile:
    from ridgepoint.capture.program import load
    from ridgepoint.capture.pytorch import Subject, spec_arguments

    file, _, factory = target.rpartition(":")
    path = Path(file).expanduser()
    say(f"building {target}")
    module = load(path, factory)
    given = read_inputs(inputs)
    _check_inputs(module, {i.name for i in given.inputs})
    for task in tasks:
        if task not in ("forward", "train"):
            raise RidgepointError("bad_task", f"a module is not captured for '{task}'", "use --task forward or train")
    mode = materialized(module)
    subjects = [
        Subject(module, spec_arguments(given.inputs), given.sizes, task, lambda: one_step(module), mode=mode)
        for task in tasks
    ]
    work = _work(path.stem if factory in ("build", "model", "main") else factory, target, subjects, say)
    return msgspec.structs.replace(work, replicas=replicas(module))


def _check_inputs(module: Any, given: set[str]) -> None:
    """Every parameter of forward that has no default needs an input."""
    import inspect

    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in given]
    name = type(module).__name__
    if missing:
        said = " ".join(f"--input '{m}: float32[B,…]'" for m in missing)
        raise RidgepointError("missing_input", f"{name}.forward needs {', '.join(missing)}", f"add {said}")
    open_ended = any(p.kind == p.VAR_KEYWORD for p in parameters)
    strange = given - {p.name for p in named}
    if strange and not open_ended:
        known = ", ".join(p.name for p in named) or "none"
        raise RidgepointError(
            "bad_input", f"{name}.forward has no parameter '{min(strange)}'", f"its parameters: {known}"
        )


def _hugging_face(path: Path, tasks: Sequence[str], say: Say) -> WorkFile:
    from ridgepoint.capture import huggingface

    config = huggingface.read(path)
    say(f"building {type(config).__name__.removesuffix('Config')}")
    chosen = tuple(tasks) or huggingface.usual_tasks(config)
    subjects = [huggingface.subject(config, task) for task in chosen]
    stem = (
        path.resolve().name
        if path.is_dir()
        else path.parent.resolve().name
        if path.name == "config.json"
        else path.stem
    )
    return _work(stem, f"hf:{path}", subjects, say)


def _work(name: str, source: str, subjects: Sequence[Any], say: Say) -> WorkFile:
    from ridgepoint.capture.module_facts import main_format, parameter_counts, shown_paths
    from ridgepoint.capture.pytorch import capture_pass

    torch = needed("torch", "capturing a model")
    passes, sizes, fixed, methods = {}, dict[str, float](), dict[str, float](), []
    for subject in subjects:
        say(f"capturing {subject.task}")
        found = capture_pass(subject, say)
        passes[subject.task] = found.graph
        sizes |= {n: subject.sizes[n] for n in found.sizes if n != "batch"}
        fixed |= {n: s for n, s in found.fixed.items() if n == "batch"}
        if "batch" not in subject.sizes:  # one sample is all that the inputs speak of
            fixed["batch"] = 1.0
        methods.append(f"{subject.task}: {found.method}")
    module = subjects[0].module
    return WorkFile(
        ridgepoint_work=VERSION,
        name=name,
        source=source,
        method="; ".join(methods),
        format=main_format(module),
        sizes=sizes,
        parameters=parameter_counts(module, shown_paths(module)),
        passes=passes,
        title=type(module).__name__,
        captured_with=f"torch {torch.__version__.partition('+')[0]}",
        fixed=fixed,
    )
