"""A factory in a file: ``my_model.py:build`` returns a ``torch.nn.Module``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from ridgepoint.capture.extra import needed
from ridgepoint.errors import RidgepointError, nearest


def load(file: Path, factory: str) -> Any:
    """The module that a factory makes, moved to the meta device.

    The file is the user's own code and runs as such. A factory that needs values of tensors is run with real ones.

    Errors: ``bad_file`` for a file or factory that is not there or fails; ``bad_model`` where it returns something else.
    """
    torch = needed("torch", "capturing a model")
    found = getattr(_module(file), factory, None)
    if not callable(found):
        names = [n for n in vars(_module(file)) if not n.startswith("_")]
        close = nearest(factory, names)
        hint = f"did you mean {' or '.join(close)}?" if close else "name a function without required parameters"
        raise RidgepointError("bad_file", f"{file} has no function '{factory}'", hint)
    try:
        with torch.device("meta"):
            model = found()
    except Exception as first:
        try:
            model = found()
        except Exception:
            text = " ".join(str(first).split())[:300]
            absent = "compiled with CUDA" in text or "NVIDIA driver" in text
            raise RidgepointError(
                "bad_file",
                f"{file}:{factory} failed: {type(first).__name__}: {text}",
                "no device is needed: make meshes and tensors on 'cpu'" if absent else "it must run without arguments",
            ) from first
    if not isinstance(model, torch.nn.Module):
        raise RidgepointError(
            "bad_model", f"{file}:{factory} returns {type(model).__name__}", "return a torch.nn.Module (not its output)"
        )
    return model.to("meta")


def _module(file: Path) -> Any:
    """The file as a module; its folder can be imported from."""
    name = f"_captured_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file.resolve()):
        return known
    if not file.is_file():
        raise RidgepointError("bad_file", f"there is no file {file}", "check the path")
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise RidgepointError("bad_file", f"{file} is no Python file", "give FILE.py:FACTORY")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        text = " ".join(str(error).split())[:300]
        raise RidgepointError(
            "bad_file", f"{file} fails: {type(error).__name__}: {text}", "it must import by itself"
        ) from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module
