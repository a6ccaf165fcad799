"""What kernels ask a machine (design §1, §4): which arithmetic, which memory, which link."""

import pytest
from msgspec.structs import replace

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import device_names, find_device, find_machine
from ridgepoint.machines.description import Bytes, BytesPerSecond, Engine, FlopPerSecond, MemoryLevel
from ridgepoint.machines.machine import Machine


class TestArithmetic:
    # Design §4: "a format that the machine lacks runs in the next wider one plus conversion, and the estimate says so".
    # If these fail, a speed-up is promised that the hardware does not have, or a loss goes unsaid.
    @pytest.mark.parametrize(
        ("machine", "wanted", "used", "tflop_per_s"),
        [
            ("a100-sxm-80gb", "fp8", "bf16", 312.0),
            ("a100-sxm-80gb", "nvfp4", "bf16", 312.0),
            ("t4", "bf16", "fp16", 65.0),
            ("v100-sxm-16gb", "bf16", "fp16", 125.0),
            ("h100-sxm", "nvfp4", "fp8", 1978.9),
            ("h100-sxm", "int4", "int8", 1978.9),
            ("tpu-v5e", "fp16", "bf16", 197.0),
            ("p100-pcie", "bf16", "fp16", 18.7),
        ],
    )
    def test_a_missing_format_runs_in_a_wider_one_and_says_so(
        self, machine: str, wanted: str, used: str, tflop_per_s: float
    ) -> None:
        found = find_machine(machine).arithmetic(wanted)
        assert found.format == used
        assert found.flop_per_s == pytest.approx(tflop_per_s * 1e12, rel=0.01)
        assert machine in found.note
        assert FORMATS[wanted].math in found.note
        assert used in found.note

    @pytest.mark.parametrize(
        ("machine", "wanted", "engine"),
        [("h100-sxm", "fp8", "matrix"), ("h100-sxm", "fp32", "vector"), ("a100-sxm-80gb", "int8", "matrix")],
    )
    def test_a_format_that_is_there_needs_no_note(self, machine: str, wanted: str, engine: str) -> None:
        found = find_machine(machine).arithmetic(wanted)
        assert (found.engine, found.format, found.note) == (engine, wanted, "")

    def test_block_scaled_formats_run_at_their_arithmetic_rate(self) -> None:
        b200 = find_machine("b200-sxm")
        assert b200.arithmetic("nvfp4").flop_per_s == b200.arithmetic("fp4").flop_per_s
        assert b200.arithmetic("fp8_block").flop_per_s == b200.arithmetic("fp8").flop_per_s

    def test_the_faster_engine_computes(self) -> None:
        # fp64 on H100: 66.9 TFLOP/s on tensor cores, 33.5 on CUDA cores.
        assert find_machine("h100-sxm").arithmetic("fp64").engine == "matrix"

    def test_no_format_is_narrowed_in_silence(self) -> None:
        device = find_device("h100-sxm")
        engine = Engine(label="int units", rates={"int8": FlopPerSecond(1e12)})
        only = Machine("x", replace(device, engines={"matrix": engine}))
        with pytest.raises(RidgepointError, match="int8") as error:
            only.arithmetic("bf16")
        assert error.value.kind == "no_arithmetic"
        with pytest.raises(RidgepointError, match="zcu104@memory=4G,vector=") as error:
            find_machine("zcu104@memory=4G").arithmetic("bf16")
        assert find_machine("zcu104@vector=100G").arithmetic("bf16").flop_per_s == 1e11
        with pytest.raises(RidgepointError, match="--weights bf16"):  # captured code is fp32
            find_machine("tpu-v6e").arithmetic("fp32")

    @pytest.mark.parametrize("name", device_names())
    def test_every_machine_runs_some_model(self, name: str) -> None:
        # A sheet without any arithmetic for a model in bf16 or int8 would be of no use.
        machine = find_machine(name)
        floating = any(key[:2] in ("fp", "bf", "tf") for e in machine.device.engines.values() for key in e.rates)
        assert machine.arithmetic("bf16" if floating else "int8").flop_per_s > 0.0
        assert machine.vector_flop_per_s > 0.0


class TestEngines:
    def test_rates_by_engine(self) -> None:
        h100 = find_machine("h100-sxm")
        assert h100.engine_rate("matrix", "bf16") == 989.4e12
        assert h100.engine_rate("vector") == h100.vector_flop_per_s == pytest.approx(66.9e12)
        assert h100.engine_rate("special") == pytest.approx(132 * 16 * 1.83e9, rel=1e-3)
        assert h100.engine_rate("quantum") is None

    def test_a_machine_without_vector_units_uses_what_it_has(self) -> None:
        sn40l = find_machine("sn40l")
        assert sn40l.engine_rate("vector") is None
        assert sn40l.vector_flop_per_s == 638e12


class TestMemory:
    def test_main_memory_is_the_one_with_that_role(self) -> None:
        sn40l = find_machine("sn40l")
        assert (sn40l.main_memory, sn40l.memory_bytes, sn40l.memory_bytes_per_s) == ("hbm", 64e9, 1.6e12)

    def test_gb_is_1e9_bytes(self) -> None:
        # Design §9 and the "Where the others go wrong": 80 GB is not 80 GiB.
        assert find_machine("h100-sxm").memory_bytes == 80e9

    def test_the_cache_is_the_largest_level_of_that_role(self) -> None:
        device = find_device("h100-sxm")
        large = MemoryLevel(label="L3", role="cache", capacity=Bytes(1e9))
        machine = Machine("x", replace(device, memory=device.memory | {"l3": large}))
        assert machine.cache is not None
        assert machine.cache[:2] == ("l3", 1e9)

    def test_cache_bandwidth_is_the_sheets_or_follows_from_the_clock(self) -> None:
        h100 = find_machine("h100-sxm")
        assert h100.cache is not None
        per_clock = h100.coefficients.device.cache_bytes_per_clock
        assert h100.cache[2] == pytest.approx(per_clock * 132 * 1.83e9)
        levels = h100.device.memory
        stated = replace(levels["l2"], bandwidth=BytesPerSecond(5e12))
        known = Machine("x", replace(h100.device, memory=levels | {"l2": stated}))
        assert known.cache == ("l2", 50e6, 5e12)

    def test_a_machine_may_have_no_cache(self) -> None:
        assert find_machine("tpu-v5e").cache is None

    def test_tiers(self) -> None:
        assert find_machine("h100-sxm").tiers == {}
        assert find_machine("sn40l").tiers["ddr"].capacity_bytes == 1.5e12
        assert find_machine("gh200").tiers["lpddr"].link == "c2c"


class TestLinks:
    @pytest.mark.parametrize(
        ("machine", "scope", "name", "gigabytes_per_s"),
        [
            ("8xh100-sxm", "node", "nvlink", 450.0),
            ("8xh100-sxm", "host", "pcie", 63.0),
            ("8xh100-sxm", "cluster", "network", 50.0),
            ("2xrtx-4090", "node", "pcie", 31.5),
            ("tpu-v5e", "node", "ici", 200.0),
        ],
    )
    def test_links_by_scope(self, machine: str, scope: str, name: str, gigabytes_per_s: float) -> None:
        # Bandwidths are per device and direction (design §4): the data sheets' figures count both.
        link = find_machine(machine).link(scope)
        assert link is not None
        assert (link[0], link[1].bandwidth) == (name, gigabytes_per_s * 1e9)

    def test_the_fastest_link_of_a_scope(self) -> None:
        device = find_device("h100-sxm")
        slow = replace(device.links["nvlink"], bandwidth=BytesPerSecond(1e9))
        machine = Machine("x", replace(device, links={"slow": slow} | device.links))
        assert machine.link("node") == ("nvlink", device.links["nvlink"])

    def test_no_link(self) -> None:
        assert find_machine("raspberry-pi-5").link("node") is None
        assert find_machine("rtx-4090").link("cluster") is None


def test_resources_have_names_that_people_read() -> None:
    h100 = find_machine("h100-sxm")
    names = [h100.resource_label(r) for r in ("hbm", "matrix", "nvlink", "launch", "something_new")]
    assert names[:4] == ["HBM3 bandwidth", "tensor cores", "NVLink 4 through NVSwitch bandwidth", "kernel launch"]
    assert names[4] == "something new"
    assert find_machine("m4-max").resource_label("l2") == "cache bandwidth", "a cache that the sheet does not name"


def test_counts() -> None:
    cluster = find_machine("16x8xh100-sxm")
    assert (cluster.nodes, cluster.devices_per_node, cluster.devices, cluster.multiprocessors) == (16, 8, 128, 132)
