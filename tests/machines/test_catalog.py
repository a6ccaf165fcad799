"""Finding machines (design §1, §10; issue "Machines", "Bad input"): names, aliases, counts, a user's own files."""

import csv
from pathlib import Path

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import (
    device_files,
    device_names,
    find_device,
    find_machine,
    find_system,
    names,
    system_names,
)
from ridgepoint.machines.description import numbers, provenance
from tests.machines.sheets import PLAIN

FIRST_24 = """
a100-sxm-40gb a100-sxm-80gb a100-pcie-80gb h100-sxm h100-pcie h200-sxm b200-sxm gb200 mi250x mi300x l4 l40s a10 a40 t4
v100-sxm-16gb p100-pcie rtx-3090 rtx-4090 tpu-v5e m2-ultra epyc-9654 xeon-8480plus ryzen-7840u
"""


def refusal(name: str) -> RidgepointError:
    with pytest.raises(RidgepointError) as error:
        find_machine(name)
    assert error.value.hint, "an error without a hint leaves the reader alone"
    return error.value


@pytest.mark.parametrize("name", device_names())
class TestEverySheet:
    # Issue: "every value with its source". A value nobody can trace must not be in a catalogue.
    def test_it_loads_and_is_named_after_its_file(self, name: str) -> None:
        assert find_device(name).name == name == device_files()[name].stem

    def test_every_value_has_a_dated_source(self, name: str) -> None:
        device = find_device(name)
        for path, value in numbers(device):
            source = provenance(device, path)
            assert source is not None, path
            assert source.title, path
            assert source.date, path
            assert value > 0.0, path

    def test_no_source_is_unused(self, name: str) -> None:
        device = find_device(name)
        used = set(device.provenance.values())
        assert used == set(device.sources)

    def test_no_provenance_is_of_nothing(self, name: str) -> None:
        device = find_device(name)
        paths = [path for path, _ in numbers(device)]
        for covered in device.provenance:
            assert any(p == covered or p.startswith(f"{covered}.") for p in paths), covered

    def test_its_figures_are_of_the_right_size(self, name: str) -> None:
        # A slip of a factor of 1000 in a sheet would be believed. From a microcontroller to a wafer:
        machine = find_machine(name)
        assert 1e6 <= machine.memory_bytes_per_s <= 1e17
        assert 1e5 <= machine.memory_bytes <= 2e13
        rate = max(float(rate) for engine in machine.device.engines.values() for rate in engine.rates.values())
        assert 1e8 <= rate <= 2e17
        assert 0.1 <= rate / machine.memory_bytes_per_s <= 1e4
        assert 3e7 <= machine.device.chip.clock <= 6e9
        tdp = machine.device.power.tdp
        assert tdp is None or 0.05 <= tdp <= 3e4
        assert machine.cache is None or machine.cache[1] < machine.memory_bytes

    def test_narrower_formats_are_not_slower_on_the_matrix_engine(self, name: str) -> None:
        engine = find_device(name).engines.get("matrix")
        rates = engine.rates if engine else {}
        for wide, narrow in (("fp32", "bf16"), ("tf32", "bf16"), ("bf16", "fp8"), ("fp8", "fp4")):
            if wide in rates and narrow in rates:
                assert rates[narrow] >= rates[wide], (wide, narrow)

    def test_peaks_of_special_units_follow_from_the_chip(self, name: str) -> None:
        device = find_device(name)
        special = device.engines.get("special")
        if special is not None:
            per_clock = special.rates["fp32"] / (device.chip.multiprocessors * device.chip.clock)
            assert 3.9 <= per_clock <= 33.0, per_clock


def test_there_are_enough() -> None:
    # Issue "Catalogues": at least 110 entries.
    assert len(device_names()) >= 110
    assert set(FIRST_24.split()) <= set(device_names())


UNDESCRIBED = {
    # Machines of the measurements' table of which no document states what a sheet needs, and why.
    "amlogic-s805-cpu": "rate of the Cortex-A5's NEON unit (memory: 32 bits at 696 MHz, U-Boot of the OneCloud)",
    "axera-ax620a-cpu": "rate of the Cortex-A7's NEON unit, memory clock",
    "axera-ax630c-cpu": "memory clock and width",
    "mediatek-dimensity-9300-gpu": "clock of the GPU",
    "nvidia-jetson-agx-xavier-cpu": "rate of the Carmel cores",
    "nvidia-jetson-tx2-nx-cpu": "rate of the Denver 2 cores",
    "phytium-ft-2000-64-cpu": "memory clock",
    "phytiumpi-phytium-e2000-cpu": "rates of both kinds of cores, memory clock",
    "sunway-sw421-cpu": "everything but the clock",
}


def test_the_machines_that_were_measured_are_found(shared: Path) -> None:
    # Issue "Catalogues": all the slugs of the measurements' machines, but for those that nobody documents.
    with (shared / "measurements/machines.csv").open(encoding="utf-8") as table:
        slugs = {row["slug"] for row in csv.DictReader(table)}
    known = {slug for slug in slugs if _is_known(slug)}
    assert slugs - known == set(UNDESCRIBED)


def _is_known(slug: str) -> bool:
    try:
        find_machine(slug)
    except RidgepointError:
        return False
    return True


def test_a_die_is_half_of_its_module() -> None:
    # An MI250X is two devices to software: what is placed on one die has half of every rate and 64 GB.
    die, module = find_device("mi250x-gcd"), find_device("mi250x")
    for engine in ("matrix", "vector"):
        for number_format, rate in die.engines[engine].rates.items():
            assert 2 * rate == pytest.approx(module.engines[engine].rates[number_format])
    for level in ("hbm", "l2", "shared"):
        assert 2 * die.memory[level].capacity == pytest.approx(module.memory[level].capacity, rel=1e-3)
    assert 2 * die.chip.multiprocessors == module.chip.multiprocessors
    node, dies = find_machine("frontier-node"), find_machine("frontier-node-gcd")
    assert dies.devices == 2 * node.devices
    assert dies.memory_bytes_per_s == pytest.approx(node.memory_bytes_per_s / 2)


def test_every_alias_leads_to_its_machine() -> None:
    for name in device_names():
        for alias in find_device(name).aliases:
            assert find_device(alias).name == name
    for name in system_names():
        for alias in find_system(name).sheet.aliases:
            assert find_machine(alias).device == find_system(name).device


def test_names_and_aliases_are_unique() -> None:
    taken = [alias for name in device_names() for alias in find_device(name).aliases]
    assert len(taken) == len(set(taken)), {a for a in taken if taken.count(a) > 1}
    assert not set(taken) & set(names())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("h100", "h100-sxm"),
        ("H100_SXM", "h100-sxm"),
        (" a100 ", "a100-sxm-80gb"),
        ("v5e", "tpu-v5e"),
        ("4090", "rtx-4090"),
    ],
)
def test_aliases_case_and_spaces(written: str, meant: str) -> None:
    assert find_machine(written).device.name == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("Tesla V100-SXM2-16GB", "v100-sxm-16gb"),
        ("NVIDIA GeForce GTX 1080 Ti", "gtx-1080ti"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Google TPU v4", "tpu-v4"),
        ("TPUv4", "tpu-v4"),
        ("rtx4090", "rtx-4090"),
        ("Apple M4 Max", "m4-max"),
        ("AWS Trainium2", "trainium-2"),
        ("Cerebras CS-3", "wse-3"),
        ("Google Pixel 6", "tensor-g1"),
        ("8x NVIDIA H100", "h100-sxm"),
        ("NVIDIA DGX A100", "a100-sxm-80gb"),
        ("H200_SXM_141GB", "h200-sxm"),
        ("h100-sxm5-80gb", "h100-sxm"),
        ("v100-sxm2", "v100-sxm-16gb"),
        ("rtx-4090-24gb", "rtx-4090"),
        ("b200-sxm-192gb", "b200-sxm"),
        ("gb200_sxm", "gb200"),
    ],
)
def test_names_as_drivers_and_papers_print_them(written: str, meant: str) -> None:
    # Issue "Catalogues": every machine that the papers and their readers name; a user's table holds what the driver says.
    assert find_machine(written).device.name == meant


@pytest.mark.parametrize(
    "written",
    [
        "NVIDIA",
        "NVIDIA GeForce RTX 4090 X",
        "snapdragon-888-gpu",
        "m2-pro-cpu",
        "h-10-0x",
        "AMD A10",
        "Intel P4",
        "NVIDIA M1",
        "AMD DGX A100",
        "h20-141gb",
        "rtx-2060-12gb",
        "rtx-4090-48gb",
    ],
)
def test_what_only_resembles_a_machine_is_not_taken_for_it(written: str) -> None:
    assert refusal(written).kind == "unknown_machine"


@pytest.mark.parametrize(
    ("written", "nodes", "per_node"),
    [
        ("h100-sxm", 1, 1),
        ("8xh100-sxm", 1, 8),
        ("8×h100-sxm", 1, 8),
        ("16x8xh100-sxm", 16, 8),
        ("16xh100-sxm", 2, 8),
        ("4x4xh100-sxm", 4, 4),
        ("256xtpu-v5e", 1, 256),
        ("144xgb200", 2, 72),
        ("4xrtx-4090", 1, 4),
        ("1x1xh100", 1, 1),
    ],
)
def test_counts(written: str, nodes: int, per_node: int) -> None:
    machine = find_machine(written)
    assert (machine.nodes, machine.devices_per_node, machine.name) == (nodes, per_node, written)


@pytest.mark.parametrize(
    ("written", "kind", "says", "hint"),
    [
        ("h100-smx", "unknown_machine", "'h100-smx'", "h100-sxm"),
        ("8xh100-smx", "unknown_machine", "'h100-smx'", "h100-sxm"),
        ("rtx4900", "unknown_machine", "rtx4900", "rtx-4090"),
        ("dgx-h10", "unknown_machine", "dgx-h10", "dgx-h100"),
        ("grace-hoper", "unknown_machine", "grace-hoper", "gh200"),
        ("zzzzzz", "unknown_machine", "zzzzzz", "machines list"),
        ("", "unknown_machine", "''", "machines list"),
        ("8x", "unknown_machine", "8x", ""),
        ("0xh100-sxm", "bad_machine", "counts", "8xh100-sxm"),
        ("0x8xh100-sxm", "bad_machine", "counts", "8xh100-sxm"),
        ("9999999x8xh100-sxm", "bad_machine", "10,000,000", "8xh100-sxm"),
        ("9xh100-sxm", "bad_machine", "at most 8", "NODESx8xh100-sxm"),
        ("2x16xh100-sxm", "bad_machine", "at most 8", "NODESx8xh100-sxm"),
        ("2x8xrtx-4090", "bad_machine", "no network link", "network"),
        ("8xrtx-3090", "bad_machine", "no network link", "server-8x-rtx-3090"),
        ("32xrtx-4090", "bad_machine", "no network link", "network"),
        ("2xraspberry-pi-5", "bad_machine", "no link between devices", "link"),
        ("nowhere/mine.toml", "unknown_machine", "nowhere/mine.toml", "path"),
        ("mine\0.toml", "unknown_machine", "cannot read", "path"),
        ("x" * 5000, "unknown_machine", "xxx", ""),
        ("x" * 5000 + ".toml", "unknown_machine", "cannot read", "path"),
        ("~nobody-is-called-that/x.toml", "unknown_machine", "cannot read", "path"),
    ],
)
def test_refusals(written: str, kind: str, says: str, hint: str) -> None:
    error = refusal(written)
    assert error.kind == kind
    assert says in error.message
    assert hint in error.hint


class TestOwnFiles:
    def test_a_file_by_its_path(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(PLAIN)
        assert find_machine(str(path)).device.title == "A machine"
        assert find_machine(f"4x{path}").devices_per_node == 4
        assert find_machine(f"{path}@bandwidth=1T").memory_bytes_per_s == 1e12

    def test_a_file_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        for bandwidth in ("1 TB/s", "2 TB/s"):
            path.write_text(PLAIN.replace("2 TB/s", bandwidth))
            last = find_machine(str(path)).memory_bytes_per_s
        assert last == 2e12

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b""])
    def test_a_file_that_cannot_be_used(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "mine.toml"
        path.write_bytes(content)
        assert "mine.toml" in refusal(str(path)).message

    def test_a_folder_adds_machines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "machines" / "mine.toml", PLAIN)
        monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path))
        assert find_machine("4xmine").devices == 4
        assert find_machine("own").device.name == "mine"
        assert "mine" in device_names()
        assert find_machine("h100").device.name == "h100-sxm"
        monkeypatch.setenv("RIDGEPOINT_CATALOG", "/nowhere")
        assert refusal("mine").kind == "unknown_machine"

    def test_a_folder_replaces_machines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "machines" / "h100-sxm.toml", PLAIN.replace('name = "mine"', 'name = "h100-sxm"'))
        before = find_machine("h100-sxm").device.title
        monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path))
        assert find_machine("h100-sxm").device.title == "A machine"
        assert len(device_names()) == len(set(device_names()))
        monkeypatch.setenv("RIDGEPOINT_CATALOG", "/nowhere")
        assert find_machine("h100-sxm").device.title == before

    def test_a_folder_adds_systems(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = 'name = "lab"\ntitle = "Our lab"\ndevice = "mine"\n[sources]\n[provenance]\n'
        write(tmp_path / "systems" / "lab.toml", text)
        write(tmp_path / "machines" / "mine.toml", PLAIN)
        monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path))
        assert "lab" in system_names()
        assert find_machine("lab").device.name == "mine"

    def test_a_file_must_bear_its_machines_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "machines" / "yours.toml", PLAIN)
        monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path))
        error = refusal("yours")
        assert "'mine'" in error.message

    def test_the_folder_of_a_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The same folder as that of models (``ridgepoint models import``).
        write(tmp_path / ".config" / "ridgepoint" / "machines" / "mine.toml", PLAIN)
        monkeypatch.delenv("RIDGEPOINT_CATALOG", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert find_machine("mine").device.title == "A machine"

    def test_a_folder_that_is_not_there_adds_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RIDGEPOINT_CATALOG", "/nowhere")
        assert find_machine("h100-sxm").device.name == "h100-sxm"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# design §1: a count stands before an x, and so do the names of Radeon cards
@pytest.mark.parametrize(
    ("name", "card", "count"),
    [
        ("7900xtx", "rx-7900-xtx", 1),
        ("2x7900XTX", "rx-7900-xtx", 2),
        ("6900XT", "rx-6900-xt", 1),
        ("4090", "rtx-4090", 1),
    ],
)
def test_the_number_of_a_card_is_no_count(name: str, card: str, count: int) -> None:
    machine = find_machine(name)
    assert (machine.device.name, machine.devices) == (card, count)
    assert find_machine("7900xtx@memory=48G").memory_bytes == 48e9
