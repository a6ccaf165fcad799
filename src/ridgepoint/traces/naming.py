"""Modules that name themselves in a trace: the profiler knows classes of modules, and not the paths that tell layers apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ridgepoint.traces.components import NAMED


@contextmanager
def named(model: Any) -> Iterator[Any]:
    """While it lasts, the profiler writes down which module of ``model`` (an ``nn.Module``) every operator ran in.

    A trace recorded within tells time by ``layers.*.mlp.down_proj``, the names that ``ridgepoint capture`` gives to the
    same modules. Without a running profiler a call costs some microseconds per module::

        with torch.profiler.profile() as prof, ridgepoint.traces.naming.named(model):
            model(x)
        prof.export_chrome_trace("run.json.gz")
    """
    from torch.profiler import record_function

    open_notes: dict[str, list[Any]] = {}
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            if not path:
                continue
            before, after = _hooks(path, open_notes.setdefault(path, []), record_function)
            hooks.callback(module.register_forward_pre_hook(before).remove)
            # A forward that fails still closes its note.
            hooks.callback(module.register_forward_hook(after, always_call=True).remove)
        yield model


def _hooks(path: str, notes: list[Any], note: Any) -> tuple[Any, Any]:
    def before(module: Any, inputs: Any) -> None:
        opened = note(NAMED + path)
        opened.__enter__()
        notes.append(opened)

    def after(module: Any, inputs: Any, output: Any) -> None:
        if notes:
            notes.pop().__exit__(None, None, None)

    return before, after
