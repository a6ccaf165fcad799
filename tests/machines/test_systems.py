"""Systems as data (issue "Catalogues": DGX and HGX nodes, NVL72, Frontier node, pod slices, workstations, offload boxes)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.transfer import bound
from ridgepoint.machines.catalog import device_names, find_device, find_machine, find_system, system_names
from ridgepoint.machines.description import numbers, provenance
from ridgepoint.machines.systems import SystemSheet, read_system, system_of
from ridgepoint.ops import Transfer

PLAIN = """\
name = "mine"
title = "A system"
device = "h100-sxm"
devices = 4
nodes = 2

[links.network]
label = "Ethernet"
scope = "cluster"
bandwidth = "100 Gb/s"

[host]
label = "a host"
cores = 32

[sources]
page = { title = "its page", date = "2026" }

[provenance]
"devices" = "page"
"nodes" = "page"
"links" = "page"
"host" = "page"
"""


def system(text: str = PLAIN) -> SystemSheet:
    return read_system(text, "mine.toml")


def refusal(before: str, after: str) -> str:
    assert before in PLAIN
    with pytest.raises(RidgepointError) as error:
        system_of(system(PLAIN.replace(before, after)), find_device("h100-sxm"), "mine.toml")
    assert error.value.kind == "bad_machine"
    assert error.value.message.startswith("mine.toml")
    return str(error.value)


@pytest.mark.parametrize("name", system_names())
class TestEverySystem:
    def test_it_forms_a_machine(self, name: str) -> None:
        machine, found = find_machine(name), find_system(name)
        assert machine.name == name
        assert machine.devices == found.nodes * found.devices_per_node
        assert machine.coefficients.device.launch_s > 0.0
        assert machine.device.name == found.sheet.device, "kernels and measurements know the device by its own name"

    def test_every_value_has_a_dated_source(self, name: str) -> None:
        device = find_system(name).device
        for path, _ in numbers(device):
            source = provenance(device, path)
            assert source is not None, path
            assert source.title, path
            assert source.date, path

    def test_what_it_changes_comes_from_its_own_documents(self, name: str) -> None:
        found = find_system(name)
        before = dict(numbers(find_device(found.sheet.device)))
        for path, value in numbers(found.device):
            if before.get(path) != value:
                longest = max((p for p in found.device.provenance if path == p or path.startswith(f"{p}.")), key=len)
                assert found.device.provenance[longest].startswith("system."), path

    def test_no_source_is_unused(self, name: str) -> None:
        sheet = find_system(name).sheet
        assert set(sheet.provenance.values()) == set(sheet.sources)


@pytest.mark.parametrize(
    ("name", "device", "per_node", "nodes"),
    [
        ("dgx-h100", "h100-sxm", 8, 1),
        ("4xdgx-h100", "h100-sxm", 8, 4),
        ("DGX H100", "h100-sxm", 8, 1),
        ("gb200-nvl72", "gb200", 72, 1),
        ("2xgb200-nvl72", "gb200", 72, 2),
        ("frontier-node", "mi250x", 4, 1),
        ("8xfrontier-node", "mi250x", 4, 8),
        ("tpu-v5e-256", "tpu-v5e", 256, 1),
        ("2xtpu-v5e-256", "tpu-v5e", 256, 2),
        ("workstation-4x-rtx-4090", "rtx-4090", 4, 1),
        ("p5.48xlarge", "h100-sxm", 8, 1),
        ("selene", "a100-sxm-80gb", 8, 560),
        ("2xsummit", "v100-sxm-16gb", 6, 9216),
    ],
)
def test_systems_by_name(name: str, device: str, per_node: int, nodes: int) -> None:
    machine = find_machine(name)
    assert (machine.device.name, machine.devices_per_node, machine.nodes) == (device, per_node, nodes)


def test_what_the_issue_names_is_there() -> None:
    wanted = ["dgx-a100", "dgx-h100", "dgx-h200", "dgx-b200", "hgx-mi300x", "gb200-nvl72", "gb300-nvl72", "gh200-node"]
    wanted += ["frontier-node", "tpu-v4-128", "tpu-v5e-256", "tpu-v5p-128", "tpu-v6e-256", "cpu-gpu-box", "summit"]
    wanted += [f"workstation-{n}x-{card}" for n in (2, 4, 8) for card in ("rtx-4090", "rtx-3090", "rtx-a6000")]
    wanted += ["aws-p4d", "aws-p5", "aws-g5", "aws-g6"]
    for name in wanted:
        assert find_machine(name).devices >= 1


def test_what_a_reader_should_know_of_a_system_is_told_with_it() -> None:
    # Devices of Frontier are whole modules of two dies: whoever sees only the device's note could take them for dies.
    assert find_machine("frontier-node").device.note.startswith(find_system("frontier-node").sheet.note)
    assert find_machine("frontier-node").device.note.endswith(find_device("mi250x").note)


def test_systems_do_not_take_the_names_of_devices() -> None:
    devices = set(device_names()) | {alias for name in device_names() for alias in find_device(name).aliases}
    systems = [name for s in system_names() for name in (s, *find_system(s).sheet.aliases)]
    assert not devices & set(systems)
    assert len(systems) == len(set(systems))


class TestMerging:
    def test_its_tables_replace_the_devices(self) -> None:
        found = system_of(system(), find_device("h100-sxm"), "mine.toml")
        base = find_device("h100-sxm")
        assert (found.devices_per_node, found.nodes) == (4, 2)
        assert found.device.links["network"].bandwidth == 12.5e9
        assert found.device.links["nvlink"] == base.links["nvlink"]
        assert found.device.memory == base.memory
        assert found.device.host is not None
        assert found.device.host.memory is None, "a host is replaced as a whole: the old memory is another machine's"
        assert found.device.storage is None, "the drives of the DGX are not in this system"

    def test_sources_follow_the_values(self) -> None:
        found = system_of(system(), find_device("h100-sxm"), "mine.toml").device
        titles = [provenance(found, path) for path in ("links.network.bandwidth", "host.cores", "memory.hbm.bandwidth")]
        assert [t.title for t in titles if t][:2] == ["its page", "its page"]
        assert titles[2] == provenance(find_device("h100-sxm"), "memory.hbm.bandwidth")

    def test_a_link_can_be_left_out(self) -> None:
        text = PLAIN.replace("nodes = 2", 'nodes = 2\nwithout = ["nvlink", "price"]')
        machine = system_of(system(text), find_device("h100-sxm"), "mine.toml").device
        assert "nvlink" not in machine.links
        assert machine.price is None
        assert find_machine("workstation-2x-rtx-3090").link("node") == find_machine("rtx-3090").link("host")

    @pytest.mark.parametrize(
        ("before", "after", "says"),
        [
            ('device = "h100-sxm"\n', "", "device"),
            ("devices = 4", "device_count = 4", "device_count"),
            ("devices = 4", "devices = 0", "`devices`"),
            ("devices = 4", 'devices = "four"', "devices"),
            ('"devices" = "page"\n', "", "`devices` has no source"),
            ('"nodes" = "page"\n', "", "`nodes` has no source"),
            ('"links" = "page"\n', "", "`links.network.bandwidth` has no source"),
            ('"host" = "page"\n', "", "`host.cores` has no source"),
            ('"host" = "page"', '"host" = "pages"', "'pages'"),
            ("nodes = 2", 'nodes = 2\nwithout = ["nvlnk"]', "nvlnk"),
            ('name = "mine"', 'name = "2xmine"', "`name`"),
            ('scope = "cluster"', 'scope = "clusters"', "cluster"),
            ("cores = 32", "cores = -1", "positive"),
            ("cores = 32", "cores = 32\ncolour = 1", "colour"),
        ],
    )
    def test_mistakes_are_refused_with_their_path(self, before: str, after: str, says: str) -> None:
        assert says in refusal(before, after)

    def test_a_system_of_a_whole_system_is_refused(self) -> None:
        with pytest.raises(RidgepointError, match="8xdgx-h100"):
            find_machine("2x4xdgx-h100")


class TestTiersOfSystems:
    def test_grace_memory_behind_hbm(self) -> None:
        # 384 GB/s of LPDDR5X over a link of 450 GB/s: the memory limits.
        machine = find_machine("gh200-node")
        assert settle(bound(Transfer(bytes=384e9, tier="lpddr"), machine)).time_s == pytest.approx(1.0)

    def test_offloading_reads_the_drive_of_the_box(self) -> None:
        machine = find_machine("cpu-gpu-box")
        assert settle(bound(Transfer(bytes=7.45e9, tier="storage"), machine)).time_s == pytest.approx(1.0)


def test_a_system_runs_a_model() -> None:
    dgx = rp.estimate("llama-3.1-8b", on="dgx-h100", task=rp.Decode(batch=8, context=1024), plan=rp.Plan(tp=8))
    node = rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Decode(batch=8, context=1024), plan=rp.Plan(tp=8))
    assert float(dgx.time_s) == float(node.time_s)
