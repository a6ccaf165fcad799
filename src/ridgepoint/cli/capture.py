"""``ridgepoint capture``: real code becomes a work file, which other commands take in place of a model's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgepoint.cli.output import print_json, progress_bar
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError


def capture(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py:FACTORY, FILE.onnx or hf:CONFIG.json")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SPEC", help="An input: 'x: float32[B,3,224,224]'; may be repeated."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="forward, train, prefill or decode; may be repeated."),
    ] = None,
    ranks: Annotated[
        int, typer.Option("--ranks", metavar="N", min=1, help="Ranks that a factory may spread its module over.")
    ] = 1,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write (NAME.work.json).")] = None,
    as_json: Json = False,
) -> None:
    """Capture what a model really does: kernels and sizes, without weights and without the target machine."""
    from ridgepoint.capture.session import capture as captured
    from ridgepoint.files import write_whole
    from ridgepoint.models.networks.captured.file import to_text
    from ridgepoint.models.networks.captured.summary import summary

    with _saying(as_json) as say:
        work = captured(target, inputs or (), tasks or (), say, ranks)
    path = out or Path(f"{work.name}.work.json")
    if path.suffix != ".json":
        raise RidgepointError("bad_option", f"--out is '{path}'", "a work file is JSON: let its name end in .json")
    write_whole(path, to_text(work))
    facts = summary(work)
    if as_json:
        print_json({"file": str(path), **facts})
        return
    print("\n".join(_lines(path, facts)))


def _lines(path: Path, facts: dict[str, Any]) -> Iterator[str]:
    yield f"{path}: {facts['title']}, {facts['parameters']:,.0f} parameters in {facts['format']}, {facts['captured_with']}"
    for name, found in facts["passes"].items():
        yield f"  {name}: {found['kernels']:,} kernels, {found['flop'] / 1e9:,.4g} GFLOP at the usual sizes"
        yield f"    {found['method']}"
        for call in found["unknown"]:
            yield f"    no rule for {call['call']} × {call['count']:g}: {call['bytes_share']:.1%} of the bytes"
    usual = ", ".join(f"{name} {size:,.0f}" for name, size in facts["sizes"].items()) or "none but the batch"
    yield f"  sizes: {usual}"


@contextmanager
def _saying(quiet: bool) -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr, while it is done."""
    with progress_bar(quiet) as bar:
        task = None if bar is None else bar.add_task("capturing", total=None)

        def say(text: str) -> None:
            if bar is not None and task is not None:
                bar.update(task, description=text)

        yield say


def work_file_of(model: str, inputs: list[str] | None, task: str | None) -> str:
    """A model's name as it is, or the work file that code named in its place was captured into.

    Such files are kept with the user's own catalogue, so that a saved scenario still finds them.

    Errors: ``bad_option`` for inputs of a model that is no code.
    """
    from ridgepoint.capture.session import is_code

    if not is_code(model):
        if inputs:
            raise RidgepointError(
                "bad_option", f"--input is given, and '{model}' is no code", "--input is for FILE.py:FACTORY"
            )
        return model
    from ridgepoint.capture.session import capture as captured
    from ridgepoint.files import write_whole
    from ridgepoint.models.catalog import user_catalog
    from ridgepoint.models.networks.captured.file import to_text

    with _saying(False) as say:
        work = captured(model, inputs or (), () if task is None else (task,), say)
    folder = user_catalog() / "captures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RidgepointError("cannot_write", f"{folder}: {error.strerror}", "set RIDGEPOINT_CATALOG") from None
    path = folder / f"{work.name}.work.json"
    write_whole(path, to_text(work))
    return str(path)
