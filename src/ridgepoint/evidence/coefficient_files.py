"""Fitted coefficients as sections of catalogue files: what a machine or family file says after ``calibrate``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.files import write_whole
from ridgepoint.machines.calibration import Fit
from ridgepoint.machines.coefficients import family_file
from ridgepoint.machines.machine import Machine
from ridgepoint.models.catalog import user_catalog

MARKER = "# Coefficients fitted to measurements by `ridgepoint calibrate`."


def merged(machine: Machine, table: str, values: Mapping[str, float], whole: bool = True) -> dict[str, Any]:
    """What a file says of a table after a fit, provenance and spread left out: the machine's present numbers with the fitted
    ones in them; not ``whole``: only the fitted ones, so that the rest stays the family's whatever becomes of that.
    """
    current: dict[str, Any] = msgspec.to_builtins(getattr(machine.coefficients, table)) if whole else {}
    for path, value in values.items():
        name, _, key = path.partition(".")
        rounded = float(f"{value:.3g}")
        current[name] = current.get(name, {}) | {key: rounded} if key else rounded
    return {name: value for name, value in current.items() if name not in ("spread", "provenance")}


def section(header: str, values: Mapping[str, Any], fit: Fit, spread: float, source: str, rows: int, date: str) -> str:
    """One TOML section with its spread and provenance.

    >>> fit = Fit({"a": 1.0}, 0.1, 0.05, 0.0)
    >>> print(section("gemm", {"a": 1.0, "b": {"x": 2.0}}, fit, 0.1, "kernels.csv", 7, "2026-11"))
    [gemm]
    a = 1.0
    b = { x = 2.0 }
    spread = 0.1
    provenance = { kind = "fitted", source = "kernels.csv", rows = 7, median_error = 0.05, date = "2026-11" }
    <BLANKLINE>
    """
    lines = [f"[{header}]"]
    for name, value in values.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{key} = {item!r}" for key, item in value.items())
            lines.append(f"{name} = {{ {inner} }}")
        else:
            lines.append(f"{name} = {value!r}")
    lines.append(f"spread = {spread:.3g}")
    lines.append(
        f'provenance = {{ kind = "fitted", source = "{source}", rows = {rows}, '
        f'median_error = {fit.median_error:.3g}, date = "{date}" }}'
    )
    return "\n".join(lines) + "\n"


def write_section(path: Path, header: str, text: str) -> None:
    """Put a section into a catalogue file: in place of the one of that name, or at the end behind the marker."""
    content = path.read_text()
    pattern = re.compile(rf"^\[{re.escape(header)}\]\n.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(content):
        content = pattern.sub(lambda _: text + "\n", content, count=1)
    else:
        mark = "" if MARKER in content or not header.startswith("coefficients") else f"{MARKER}\n"
        content = content.rstrip("\n") + f"\n\n{mark}{text}"
    write_whole(path, content.rstrip("\n") + "\n")


def own_sheet(path: Path) -> Path:
    """Where a machine's coefficients are written: its sheet, or the user's own copy of one that came with the package.

    The package's own sheets are only written in a checkout, and there not where the user named a catalogue of their own.
    """
    package = Path(str(resources.files("ridgepoint")))
    if not path.is_relative_to(package) or (is_checkout(package) and not os.environ.get("RIDGEPOINT_CATALOG")):
        return path
    return user_catalog() / "machines" / path.name


def writable_family(name: str) -> Path:
    """The file of a family, which all its machines share: it is written in a checkout only.

    Errors: ``bad_option`` in an installed package.
    """
    if not is_checkout(Path(str(resources.files("ridgepoint")))):
        raise RidgepointError(
            "bad_option",
            "a family's coefficients belong to the package, and an installed one is not written",
            "leave --write away and put the printed section under [coefficients.…] of your machine's sheet, or fit --machine",
        )
    return family_file(name)


def is_checkout(package: Path) -> bool:
    """Whether the package lies in its repository, not where an installer put it."""
    return (package.parents[1] / "pyproject.toml").is_file()


def copied(path: Path, own: Path) -> None:
    """Make ``own`` a copy of ``path`` where it is not that sheet itself."""
    if own != path:
        own.parent.mkdir(parents=True, exist_ok=True)
        write_whole(own, path.read_text())
