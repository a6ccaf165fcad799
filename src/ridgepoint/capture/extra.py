"""The extra ``capture``: what is needed, and what to say where it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ridgepoint.errors import RidgepointError

INSTALL = "pip install 'ridgepoint[capture]'"


def needed(name: str, what: str) -> Any:
    """The package of that name.

    Errors: ``missing_extra`` with the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise RidgepointError("missing_extra", f"{what} needs {name.partition('.')[0]} ({error})", INSTALL) from None
