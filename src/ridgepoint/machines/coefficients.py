"""What real kernels reach on a machine: a few dozen numbers with physical meaning, as data (design §4).

A family file (``catalog/families/hopper.toml``) holds tables beside the common ones (``generic.toml``); a machine file may
override values in ``[coefficients.TABLE]``, which is where ``ridgepoint calibrate`` writes. Each table carries its provenance
and ``spread``, the standard deviation of log(measured / predicted), from which an estimate's interval comes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.description import Device, Sheet

Fraction = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]


class Provenance(Sheet, frozen=True, forbid_unknown_fields=True):
    """Where a coefficient table comes from: ``fitted`` to measurements, or a family's ``default``."""

    kind: str
    source: str
    rows: int = 0
    median_error: float = 0.0
    date: str = ""


class Table(Sheet, frozen=True, forbid_unknown_fields=True):
    """Base of the tables: spread of log(measured / predicted), and where the numbers come from."""

    spread: float
    provenance: Provenance


class DeviceTable(Table, frozen=True, forbid_unknown_fields=True):
    """What all kernels of a device share."""

    launch_s: float
    """From the end of one kernel to the start of the next in a captured graph, fill and drain included."""
    memory_efficiency: Fraction
    """Best achieved fraction of the main memory's bandwidth."""
    cache_bytes_per_clock: float
    """Bytes per clock and multiprocessor that the last-level cache delivers."""
    memory_bytes_per_clock: float
    """Bytes per clock that one multiprocessor can draw from main memory: few blocks cannot saturate it."""
    vector_efficiency: Fraction
    """Achieved fraction of the vector engine's peak in simple kernels."""
    fabric: bool = False
    """All multiprocessors work on one kernel's tile together (wafers, spatial dataflow): to the tile models they are one."""
    processor: bool = False
    """A CPU: its cores run the operators themselves (no host starts kernels), each a part of the output channels."""
    serial: float = 0.0
    """Part of an operator's time on a CPU that one core works alone: packing, joining threads, what does not divide."""


class GemmTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/gemm.py``."""

    efficiency: dict[str, Fraction]
    """Fraction of the engine's peak by multiply format that a full wave of the largest tile reaches; ``default``."""
    joule_per_flop: dict[str, float]
    """Energy of one operation at 1 GHz by format: long kernels run at the clock that the power limit allows; 0 = no cap."""
    overdraw: float
    """Power that 16-bit products of a GPU would draw at peak rate over its limit, where no energy per operation is known."""
    memory_efficiency: Fraction
    """Fraction of the main memory's bandwidth that a large product streams its operands with."""
    memory_draw: float
    """What one multiprocessor draws from main memory in a main loop, over a typical design's (``kernels/gemm.py``)."""
    operand_flop_per_byte: float
    """16-bit operations at peak in the time that an operand byte takes from the last-level cache, multicast counted."""
    tail: Fraction
    """Part of a partial last wave's idle time that is lost: 1 for plain waves, near 0 for stream-K."""
    fill_bytes: float
    """Bytes of k, per row and column of a tile, that a wave takes to fill and drain its pipeline."""
    step_s: dict[str, float]
    """Latency of one step of the main loop (128 bytes of k) that a lone tile cannot hide, as ``start_s``."""
    start_s: dict[str, float]
    """From the end of the kernel before to the first tile, drain included (captured graph), by format; ``grouped`` for
    products in groups; ``default``."""
    split_s: float
    """Synchronisation of a split of k, beyond the traffic of its partial sums."""
    max_split: dict[str, float]
    """Largest split of k that the libraries of a format use; ``default``."""
    grouped: dict[str, Fraction]
    """Fraction of the engine's rate that a library's grouped products (MoE experts) reach; ``default``: the vendor's."""
    sharpness: float
    dequantize_flop: float
    """Vector operations per weight that is widened on the way in (weight-only formats)."""
    tile_half: float = 16.0
    """Tile intensity tm·tn/(tm+tn) at which a tile reaches half of the engine's rate: operands of a GPU's tile come from
    shared memory, those of a CPU's from registers and the first-level cache."""
    grouped_memory: dict[str, Fraction] = msgspec.field(default_factory=lambda: {"default": 1.0})
    """Fraction of the memory's bandwidth that a library's grouped products reach where experts have few rows; ``default``."""
    spreads: dict[str, float] = msgspec.field(default_factory=lambda: {"default": 0.0})
    """The spread of a library's grouped products, where tiles that it timed once leave more of it; ``default``: 0, the table's
    own."""


class AttentionTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/attention.py``."""

    efficiency: dict[str, float]
    """Fraction of the engine's peak by multiply format that full tiles reach with head_dim 128; ``default``."""
    softmax_efficiency: float
    """Exponentials per second over the special function units' peak, the rest of the softmax included."""
    memory_efficiency: Fraction
    """Best achieved fraction of the main memory's bandwidth while streaming keys and values."""
    memory_bytes_per_clock: float
    """Bytes per clock that the blocks on one multiprocessor draw from main memory."""
    start_clocks: float
    """Beyond the launch: sequence and page tables, and the first blocks' prologue and epilogue."""
    block_clocks: float
    """Prologue and epilogue of each further block of 128 queries (or piece of split keys) on its multiprocessor."""
    resident: dict[str, float]
    """Blocks of few queries that share a multiprocessor, so that they hide each other's ends, by library; ``default``."""
    split_clocks: float
    """Reduction after splitting keys over multiprocessors."""
    libraries: dict[str, Fraction]
    """What other kernels reach of the rates of engine and softmax above; ``default``: the kernels of the table."""
    streams: dict[str, Fraction]
    """The same of memory, while keys are streamed."""
    sharpness: float
    step_clocks: float = 5000.0
    """Prologue and epilogue of a further block of a decode step."""
    element_clocks: dict[str, float] = msgspec.field(default_factory=lambda: {"default": 0.5})
    """What each element of such a block's output adds (queries in, rescaling, the output), by library; ``default``."""
    spreads: dict[str, float] = msgspec.field(default_factory=lambda: {"default": 0.0})
    """The spread of a library's kernels, where one fraction for all their shapes leaves more of it; ``default``: 0, the
    table's own."""


class ScanTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/scan.py``."""

    efficiency: float
    """Fraction of the engine's peak inside a chunk."""
    memory_efficiency: float
    """Fraction of the main memory's bandwidth while stages hand their results on through it (chunked forms)."""
    state_efficiency: float
    """Fraction of the main memory's bandwidth while states are read and written (decode)."""
    step_s: float
    """Latency of one dependent chunk (of a token in ``rnn``)."""
    start_s: float
    """Beyond the launch."""
    sharpness: float


class ConvTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/conv.py``."""

    efficiency: dict[str, Fraction]
    """Rate of the implicit product of filters wider than one position over that of an equal plain one, by multiply format;
    ``default``."""
    winograd_efficiency: Fraction
    """Fraction of the engine's peak that the fused kernel of Winograd's algorithm reaches with full blocks; on cores (below),
    of an equal plain product, the transforms included."""
    gradient_efficiency: Fraction
    """Rate of the weights' gradient over that of the other directions: its operands lie across the sum."""
    depthwise_efficiency: Fraction
    """Fraction of the vector engine's peak that the plain sum reaches (depthwise filters)."""
    channels_half: float = 0.0
    """Channels at which cores load, pack and store for as long as they multiply, half of the rate above; 0: tiled products."""
    passes: float = 1.0
    """How often tensors pass through memory on the way: padded, packed and unpacked."""


class StreamTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/stream.py``."""

    efficiency: dict[str, float]
    """Achieved fraction of ``device.memory_efficiency`` by pattern; ``default``."""
    reduction_s: float
    """What a kernel that reduces its rows (norm, softmax) needs beyond an elementwise one, however small."""
    sharpness: float
    gather_bytes_per_clock: float = 2.15
    """Bytes that a GPU's multiprocessor gathers per clock, read and written: frameworks find the row of every element by
    divisions of 64-bit integers, and wait for those, not for memory."""


class CollectiveTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/collective.py``, by link scope (``node``, ``host``, ``cluster``)."""

    efficiency: dict[str, Fraction]
    """Achieved fraction of the link's bandwidth in the limit of large messages: by scope, and on the node link for
    reduction ``in_switch`` and for ``direct`` one-kernel exchanges."""
    latency_s: dict[str, float]
    """Per step of the algorithm (α), where the machine's sheet states none."""
    chunk_s: dict[str, float]
    """Time that one chunk spends in a pipeline beyond its bytes: what large messages pay to fill it."""
    start_s: float
    """Kernel start and final synchronisation."""
    own_copy: float
    """Copying a rank's own part inside the kernel, as a fraction of the time that the link takes for as many bytes."""
    direct_start_s: float
    """Start of a one-kernel exchange over device links (one-shot, two-shot)."""
    direct_latency_s: float
    """Per step of such an exchange: a barrier over device memory."""
    direct_bytes: float
    """Largest buffer that serving engines register for such exchanges."""


class TransferTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/transfer.py``."""

    efficiency: Fraction
    """Achieved fraction of the host link's bandwidth from pinned memory."""
    pageable_efficiency: Fraction
    """The same from pageable memory, which the host first copies to a pinned buffer."""
    latency_s: float
    """Start of one copy."""


class HostTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/host.py``: the framework on the CPU."""

    dispatch_s: float
    """Host time to start one kernel from compiled code."""
    eager_s: float
    """The same from an interpreter, which goes through several operators (views, casts, checks) for each kernel counted."""
    graph_launch_s: float
    """Host time to launch one captured graph."""


class StorageTable(Table, frozen=True, forbid_unknown_fields=True):
    """``kernels/storage.py``."""

    efficiency: Fraction
    """Achieved fraction of the storage's bandwidth."""
    access_s: float
    """One request, alone."""
    queue_depth: float
    """Requests in flight that hide each other's latency."""
    bandwidth: float
    """Bytes per second of a node where the machine's sheet states none."""


class PowerTable(Table, frozen=True, forbid_unknown_fields=True):
    """``cost/energy.py``: power = idle + (limit − idle) · Σ weight · utilisation, capped at the limit."""

    idle_fraction: float
    """Idle power over the limit, where the sheet states none."""
    sustained_clock: Fraction
    """Clock that dense products keep for seconds under the power limit, over the one of short measurements."""
    weights: dict[str, float]
    """Resource → part of the dynamic range that it draws when fully busy; ``default``."""


class Coefficients(Sheet, frozen=True, forbid_unknown_fields=True):
    """All tables of one machine."""

    device: DeviceTable
    gemm: GemmTable
    attention: AttentionTable
    scan: ScanTable
    conv: ConvTable
    stream: StreamTable
    collective: CollectiveTable
    transfer: TransferTable
    host: HostTable
    storage: StorageTable
    power: PowerTable


def coefficients_of(device: Device) -> Coefficients:
    """The family's tables, overridden by what the machine's own file says.

    Errors: ``bad_machine`` for an unknown family, an unknown table or key, or a number that is out of range.
    """
    if device.family not in family_names():
        close = nearest(device.family, family_names(), count=1)
        hint = f"did you mean {close[0]}?" if close else "use generic, or one of " + ", ".join(family_names())
        raise _bad(device.name, f"unknown `family` '{device.family}'", hint)
    raw = {table: dict(values) for table, values in _family(device.family).items()}
    for table, values in device.coefficients.items():
        if table not in raw:
            close = nearest(table, raw, count=1)
            hint = f"did you mean {close[0]}?" if close else "known tables: " + ", ".join(sorted(raw))
            raise _bad(device.name, f"unknown table `coefficients.{table}`", hint)
        raw[table] = _over(raw[table], values)
    try:
        tables = msgspec.convert(raw, Coefficients)
    except msgspec.ValidationError as error:
        raise _bad(device.name, f"{error}".replace("`$.", "`coefficients."), "see docs/machines.md") from None
    for path, problem, hint in _problems(tables):
        raise _bad(device.name, f"`coefficients.{path}` {problem}", hint)
    return tables


def table_origin(device: Device, table: str) -> str:
    """Where a device's table comes from: its own file (``machine``), its architecture's (``family``), or ``generic``."""
    if table in device.coefficients:
        return "machine"
    return "family" if device.family != "generic" and table in _file(device.family) else "generic"


@cache
def family_names() -> list[str]:
    """Architecture families with coefficients of their own, and ``generic``."""
    return sorted(path.name.removesuffix(".toml") for path in _families().iterdir() if path.name.endswith(".toml"))


def family_file(name: str) -> Path:
    """The file of a family's tables."""
    return Path(str(_families() / f"{name}.toml"))


def _families() -> Traversable:
    return resources.files("ridgepoint.catalog") / "families"


def _file(name: str) -> dict[str, Any]:
    return tomllib.loads((_families() / f"{name}.toml").read_text())


def likeness(name: str) -> str:
    """The family whose tables another one takes, where nobody measured its own: ``like`` of its file, else ``generic``.

    >>> likeness("blackwell_rtx"), likeness("ada")
    ('ada', 'generic')
    """
    return str(_file(name).get("like", "generic"))


@cache
def _family(name: str) -> dict[str, dict[str, Any]]:
    """The tables of the family that it is like, overridden table by table by the family's own file."""
    own = _file(name)
    if name == "generic":
        return own
    raw = {table: dict(values) for table, values in _family(likeness(name)).items()}
    for table, values in own.items():
        if table != "like":
            raw[table] = _over(raw.get(table, {}), values)
    return raw


def _over(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A table with what a narrower file says. A table of entries that says ``default`` takes the place of the common one;
    without it, its entries join those of the common one.

    >>> _over({"start_s": {"default": 1.0, "fp8": 2.0}}, {"start_s": {"fp8": 3.0}})
    {'start_s': {'default': 1.0, 'fp8': 3.0}}
    """
    joined = {
        name: common[name] | entries
        for name, entries in own.items()
        if isinstance(entries, dict) and isinstance(common.get(name), dict) and "default" in common[name]
        if "default" not in entries
    }
    return common | own | joined


_SCOPES = ("node", "host", "cluster")
_ENTRIES = {"collective.efficiency": (*_SCOPES, "in_switch", "direct")} | {
    f"collective.{name}": _SCOPES for name in ("latency_s", "chunk_s")
}
"""What a table of numbers must say; ``default`` where nothing else is asked for."""


def _problems(tables: Coefficients) -> Iterator[tuple[str, str, str]]:
    """(path, problem, hint) of what no type says: numbers are finite and not negative, spreads positive."""
    for name in tables.__struct_fields__:
        table = getattr(tables, name)
        for field in table.__struct_fields__:
            value, path = getattr(table, field), f"{name}.{field}"
            if isinstance(value, Provenance):
                continue
            entries = value if isinstance(value, dict) else {"": value}
            missing = [key for key in _ENTRIES.get(path, ("default",)) if isinstance(value, dict) and key not in value]
            for key in missing:
                yield path, f"has no entry '{key}'", f"give it one: {{ {key} = … }}"
            for key, number in entries.items():
                if not 0.0 <= number < 1e30 or (field == "spread" and number == 0.0):
                    yield f"{path}.{key}".rstrip("."), f"is {number:g}", "give a positive number"


def _bad(device: str, problem: str, hint: str) -> RidgepointError:
    return RidgepointError("bad_machine", f"{device}: {problem}", hint)
