"""``ridgepoint calibrate``: coefficients of a machine, or of an architecture family, fitted to measured kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgepoint.cli.citing import Citations
from ridgepoint.cli.output import print_json
from ridgepoint.cli.panels import Json

if TYPE_CHECKING:
    from ridgepoint.evidence.calibrated import Calibrated


def calibrate(
    source: Annotated[
        Path, typer.Option("--from", metavar="TABLE", help="A kernels table, or the folder that holds it.")
    ],
    machine: Annotated[
        str, typer.Option("--machine", metavar="NAME", help="Which machine's rows; needed if there are several.")
    ] = "",
    family: Annotated[
        str,
        typer.Option(
            "--family", metavar="NAME", help="All machines of an architecture family together; generic: all machines."
        ),
    ] = "",
    table: Annotated[
        str,
        typer.Option(
            "--table",
            help="Which coefficient table: gemm, attention, scan, conv, stream, collective; networks: what whole image models"
            " of a runs table tell of a family's convolutions and passes.",
        ),
    ] = "gemm",
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write the section into your own copy of the machine's sheet (in a checkout: the catalogue's); families'"
            " are written in a checkout only.",
        ),
    ] = False,
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Coefficients of a machine or a family, fitted to measurements; printed as the section of its catalogue file."""
    from ridgepoint.evidence.calibrated import NETWORKS, calibrated, calibrated_on_networks
    from ridgepoint.evidence.coefficient_files import writable_family

    if family and write:
        writable_family(family)
    found = calibrated_on_networks(source, family) if table == NETWORKS else calibrated(source, machine, family, table)
    path = _write(found) if write else None
    if as_json:
        print_json(found.to_dict())
        return
    print("\n".join(found.text(header) for header in found.sections), end="")
    held_back = "networks" if table == NETWORKS else "shapes"
    print(f"# median error {found.fit.median_error:.1%}; on {held_back} held back {found.held_back.median_error:.1%}")
    if path is not None:
        print(f"# written to {path}")
    for line in found.citations if citations else []:  # as comments, for what is printed is a section of a file
        print(f"# relies on {line}")


def _write(found: Calibrated) -> Path:
    """Write the sections into the catalogue file that they are of, a machine's into the user's own copy; where that is."""
    from ridgepoint.evidence.coefficient_files import copied, own_sheet, write_section
    from ridgepoint.machines.catalog import device_files
    from ridgepoint.machines.coefficients import family_file

    sheet = family_file(found.name) if found.family else device_files()[found.name]
    path = sheet if found.family else own_sheet(sheet)
    copied(sheet, path)
    for header in sorted(found.told):
        write_section(path, header, found.text(header))
    return path
