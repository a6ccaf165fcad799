"""Work files: captured work as JSON, read strictly; the format is described in ``docs/capture.md``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.formula import Size, comparison, compiled
from ridgepoint.models.networks.captured.graph import ELEMENT_BYTES, ROLES, Graph
from ridgepoint.models.networks.network import Network

VERSION = 1
MARK = "ridgepoint_work"
FAMILY = "captured"
KINDS = ("gemm", "attention", "scan", "conv", "stream", "collective", "unknown")
MOST_BYTES = 256_000_000


class WorkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that a capture knows.

    ``sizes`` are the sizes of the usual input by name (without the batch, which is ``batch``), ``format`` the number format
    that the model's own tensors have, ``parameters`` trained numbers by module, ``passes`` the graphs by task, ``method``
    how the formulas were found, ``fixed`` a batch that the
    formulas do not vary, ``ranks`` the devices of which the passes are one's part, ``replicas`` how many of these have samples
    of their own (sharded data parallelism).
    """

    ridgepoint_work: int
    name: str
    source: str
    method: str
    format: str
    sizes: dict[str, float]
    parameters: dict[str, float]
    passes: dict[str, Graph]
    title: str = ""
    captured_with: str = ""
    fixed: dict[str, float] = {}
    ranks: float = 1.0
    replicas: float = 1.0
    notes: tuple[str, ...] = ()


def to_text(work: WorkFile) -> str:
    """The file's text: one tensor or kernel a line, so that two captures can be compared."""
    text = msgspec.json.format(msgspec.json.encode(work), indent=0).decode()
    return text.replace("},{", "},\n{").replace('"kernels":', '\n"kernels":') + "\n"


def find_work(name: str) -> Network | None:
    """The captured model in the work file of that path, or None where the name is no work file's."""
    if not name.endswith(".json"):
        return None
    path = Path(name).expanduser()
    return to_network(read_work(path)) if is_work_file(path) else None


def is_work_file(path: Path) -> bool:
    """Whether a JSON file says that it is captured work."""
    try:
        with path.open("rb") as file:
            return f'"{MARK}"'.encode() in file.read(200)
    except OSError:
        return False


def read_work(path: Path) -> WorkFile:
    """The captured work in a file.

    Errors: ``bad_work`` with the file and what is wrong in it.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _bad(path, f"larger than {MOST_BYTES // 10**6} MB")
        work = msgspec.json.decode(path.read_bytes(), type=WorkFile)
    except OSError as error:
        raise RidgepointError("bad_work", f"{path}: {error.strerror or error}", "check the path") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, str(error).replace("`$.", "`")) from None
    if work.ridgepoint_work != VERSION:
        raise RidgepointError(
            "bad_work",
            f"{path} has format {work.ridgepoint_work}, and this program reads format {VERSION}",
            "capture the model again",
        )
    for name, graph in work.passes.items():
        _check(path, work, name, graph)
    if not work.passes:
        raise _bad(path, "it holds no pass")
    return work


def _bad(path: Path, what: str) -> RidgepointError:
    return RidgepointError("bad_work", f"{path}: {what}", "capture the model again with `ridgepoint capture`")


def _check(path: Path, work: WorkFile, name: str, graph: Graph) -> None:
    """Everything that a pass refers to must be there."""
    count, known = len(graph.tensors), {*work.sizes, "batch"}
    sizes: list[Size] = [t.elements for t in graph.tensors]
    for tensor in graph.tensors:
        if tensor.role not in ROLES or tensor.format not in ELEMENT_BYTES or not -1 <= tensor.over < count:
            raise _bad(path, f"pass {name} has a tensor of role '{tensor.role}' and format '{tensor.format}'")
    for kernel in graph.kernels:
        if kernel.kind not in KINDS:
            raise _bad(path, f"pass {name} has a kernel of kind '{kernel.kind}'")
        if any(not 0 <= t < count for t in (*(t for t, *_ in kernel.reads), *kernel.writes)):
            raise _bad(path, f"pass {name}: {kernel.call} ({kernel.label}) names a tensor that is not there")
        sizes += [kernel.space, *kernel.sizes.values(), *(elements for _, elements, _ in kernel.reads)]
    for left, _, right in map(comparison, graph.conditions):
        sizes += [left, right]
    strange = {n for size in sizes if isinstance(size, str) for n in compiled(size)[1]} - known
    if strange:
        raise _bad(path, f"pass {name} has formulas in the unknown size '{min(strange)}'")


def to_network(work: WorkFile) -> Network:
    """Captured work as a network, which every task and report takes."""
    return Network(
        name=work.name,
        family=FAMILY,
        config=(
            ("work", work),
            ("format", work.format),
            ("tasks", tuple(work.passes)),
            ("ranks", work.ranks),
            ("replicas", work.replicas),
        ),
        inputs=tuple(work.sizes.items()),
        domain="captured",
        title=work.title,
        source=work.source,
        notes=(f"captured from {work.source}: {work.method}", *work.notes),
    )
