"""What a failure of a model's own code means for the one who captures it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ridgepoint.capture.tracer import is_own_code
from ridgepoint.errors import RidgepointError

_BY_VALUE = (
    "item() on meta", "item() cannot be called", "Cannot access data", "aten::_local_scalar_dense", "aten::nonzero",
    "data-dependent", "torch.nonzero", "Cannot copy out of meta", "aten::equal", "is_nonzero", "aten::unique",
)  # fmt: skip
"""What PyTorch says where a program asks for the values of a tensor that has none."""


def explained(error: Exception, module: Any, sizes: Mapping[str, Any]) -> RidgepointError:
    """The error to show in place of ``error``, which the module raised at these sizes."""
    text = " ".join(str(error).split())[:300]
    name = type(module).__name__
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
            f"its parameters: {_parameters(module)}",
        )
    if (
        "no fake impl" in text.lower()
        or "not implemented for" in text.lower()
        or "NotImplementedError" in type(error).__name__
    ):
        return RidgepointError(
            "custom_op",
            f"{name} calls an operator that has no shape rule{where}: {text.partition('. ')[0]}",
            "register one with torch.library.register_fake, then it is listed as unknown with its bytes",
        )
    at = ", ".join(f"{key} = {size}" for key, size in sizes.items())
    return RidgepointError(
        "bad_capture", f"{name} failed at {at}{where}: {type(error).__name__}: {text}", "check the inputs"
    )


def _where(error: Exception) -> str:
    """The last line of the model's own code in a traceback."""
    step, found = error.__traceback__, ""
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if is_own_code(file):
            found = f" in {file.rsplit('/', 1)[-1]}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _parameters(module: Any) -> str:
    return ", ".join(inspect.signature(module.forward).parameters) or "none"
