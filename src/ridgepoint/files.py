"""Files of users: TOML read strictly, and anything written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ridgepoint.errors import RidgepointError, nearest


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """The tables of a file.

    Errors: ``kind`` where it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RidgepointError(kind, f"{path}: {error.strerror or error}", "check the path") from None
    except (ValueError, RecursionError) as error:  # tomllib passes Python's own limits on digits and depth on
        raise RidgepointError(kind, f"{path}: not valid TOML: {error}", "fix the line it names") from None


def check_keys(path: Path, kind: str, prefix: str, table: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first key of a table (called ``prefix`` and the key) that is not known.

    Errors: ``kind`` with the nearest known one.
    """
    names = list(known)
    for key in table:
        if key not in names:
            close = nearest(key, names, count=1)
            hint = f"did you mean {close[0]}?" if close else "known: " + ", ".join(names)
            raise RidgepointError(kind, f"{path}: unknown key `{prefix}{key}`", hint)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file (text in UTF-8) so that it is there whole or not at all.

    Errors: ``bad_file`` where the folder cannot be written to.
    """
    beside: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            beside = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        hint = "choose another file"
        raise RidgepointError("bad_file", f"cannot write {path}: {error.strerror or error}", hint) from None
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def _umask() -> int:
    """What new files lack; reading it needs setting it."""
    found = os.umask(0)
    os.umask(found)
    return found
