"""The sheet of a device (design §4; issue "Machines", "Bad input"): read strictly, every number with a source."""

import contextlib
import math
import random
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import device_files
from ridgepoint.machines.description import Device, Link, MemoryLevel, numbers, provenance
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.reader import ARITHMETICS, device_from, read_device
from ridgepoint.ops import Transfer
from tests.machines.sheets import PLAIN, changed

SHEETS = {name: path.read_text("utf-8") for name, path in device_files().items()}


def refusal(text: str) -> str:
    with pytest.raises(RidgepointError) as error:
        read_device(text, "mine.toml")
    assert error.value.kind == "bad_machine"
    assert error.value.message.startswith("mine.toml")
    assert error.value.hint
    return str(error.value)


def test_a_plain_sheet_is_read() -> None:
    device = read_device(PLAIN, "mine.toml")
    assert device.memory["hbm"].bandwidth == 2e12
    assert device.engines["matrix"].rates["bf16"] == 4e14
    assert device.links["pcie"].latency == 1e-6
    assert device.power.tdp == 500.0


# A typing error must not be a value that is silently not there.
@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ('vendor = "Acme"', 'vendor = "Acme"\nvendour = "Acme"', "vendour"),
        ("[chip]", "[chip]\nsms = 4", "chip"),
        ('label = "HBM"', 'label = "HBM"\nspeed = 1', "memory[...]"),
        ('label = "PCIe"', 'label = "PCIe"\nlanes = 16', "links[...]"),
        ('label = "units"', 'label = "units"\nrate = 1', "engines[...]"),
        ("[power]", "[power]\nmax = 3", "power"),
        ("[sources]", '[sources]\nmore = { name = "x" }', "sources[...]"),
    ],
)
def test_unknown_keys_are_refused_with_their_path(before: str, after: str, path: str) -> None:
    message = refusal(changed(before, after))
    assert "unknown field" in message
    assert f"`{path}" in message or path == "vendour"


@pytest.mark.parametrize(
    ("before", "after", "path", "expected"),
    [
        ('capacity = "64 GB"', 'capacity = "64 GHz"', "memory", "not a quantity in B"),
        ('bandwidth = "2 TB/s"', 'bandwidth = "2 TB"', "memory", "not a quantity in B/s"),
        ('bandwidth = "2 TB/s"', "bandwidth = true", "memory", "not True"),
        ('bandwidth = "2 TB/s"', "bandwidth = nan", "memory", "not a quantity"),
        ('bandwidth = "2 TB/s"', "bandwidth = -2e12", "memory.hbm.bandwidth", "positive"),
        ('bandwidth = "2 TB/s"', "bandwidth = 0", "memory.hbm.bandwidth", "positive"),
        ('bandwidth = "2 TB/s"', "bandwidth = 1e40", "memory.hbm.bandwidth", "positive"),
        ('bandwidth = "2 TB/s"', 'bandwidth = "fast"', "memory", "write it like 3.35 TB/s"),
        ('bandwidth = "2 TB/s"', "bandwidth = []", "memory", "not a quantity"),
        ('bandwidth = "2 TB/s"', "", "memory.hbm.bandwidth", "missing"),
        ('clock = "1.5 GHz"', 'clock = "1.5 GB"', "chip.clock", "Hz"),
        ('tdp = "500 W"', 'tdp = "500 J"', "power.tdp", "W"),
        ("multiprocessors = 100", "multiprocessors = 99.5", "chip.multiprocessors", "int"),
        ("multiprocessors = 100", "multiprocessors = 0", "chip.multiprocessors", "positive"),
        ("multiprocessors = 100", f"multiprocessors = 1{'0' * 400}", "chip.multiprocessors", "positive"),
        ("multiprocessors = 100", f"multiprocessors = 1{'0' * 5000}", "TOML", "limit"),
        ('role = "main"', 'role = "mein"', "memory.hbm.role", "main"),
        ('role = "main"', 'role = "tier"', "memory", "exactly one level"),
        ('scope = "host"', 'scope = "hosts"', "links.pcie.scope", "host"),
        ('scope = "host"', 'scope = "host"\ntopology = "switched"', "links.pcie.topology", "switch"),
        ('scope = "host"', 'scope = "host"\ndevices = 1', "links.pcie.devices", "at least 2"),
        ('kind = "gpu"', 'kind = "gpus"', "kind", "gpu"),
        ('name = "mine"', 'name = "8xmine"', "name", "count"),
        ('name = "mine"', 'name = "my machine"', "name", "small letters"),
        ('aliases = ["own"]', 'aliases = [""]', "aliases", "small letters"),
        ("bf16 =", "bf17 =", "engines.matrix.rates.bf17", "bf16"),
        ('bf16 = "400 TFLOP/s"', "", "engines", "no rate"),
        ('vendor = "Acme"', "", "vendor", "missing required"),
    ],
)
def test_wrong_values_are_refused_with_path_and_expectation(before: str, after: str, path: str, expected: str) -> None:
    message = refusal(changed(before, after))
    assert path in message
    assert expected in message


def test_engines_have_the_names_that_kernels_ask_for() -> None:
    assert "`engines.tensor`" in refusal(PLAIN.replace("[engines.matrix", "[engines.tensor"))
    assert "`engines`" in refusal(PLAIN.replace("[engines.matrix", "[engines.special"))


def test_the_family_and_the_coefficients_are_checked_at_once() -> None:
    for text in (changed('"generic"', '"genric"'), PLAIN + "[coefficients.gemm]\ntial = 0.5\n"):
        with pytest.raises(RidgepointError, match="mine"):
            read_device(text, "mine.toml")


class TestSources:
    # "Every value with its source": a number that no document covers must not enter a catalogue.
    @pytest.mark.parametrize("line", ['"chip"', '"engines"', '"memory"', '"links.pcie"', '"power"'])
    def test_a_number_without_a_source_is_refused(self, line: str) -> None:
        assert "has no source" in refusal(changed(f'{line} = "sheet"', ""))

    def test_provenance_of_an_unknown_document_is_refused(self) -> None:
        assert "provenance.power" in refusal(changed('"power" = "sheet"', '"power" = "shet"'))

    def test_the_longest_path_counts(self) -> None:
        device = read_device(changed('"memory" = "sheet"', '"memory" = "sheet"\n"memory.hbm.capacity" = "other"'), "x")
        found = [provenance(device, f"memory.hbm.{key}") for key in ("bandwidth", "capacity")]
        assert [source.title for source in found if source] == ["a data sheet", "another document"]

    def test_a_dated_price_is_its_own_source(self) -> None:
        price = '[price]\nusd_per_hour = 2.0\nprovider = "Cloud"\ndate = "2026-01"\n'
        source = provenance(read_device(PLAIN + price, "x"), "price.usd_per_hour")
        assert source is not None
        assert (source.title, source.date) == ("Cloud", "2026-01")
        assert "price.usd_per_hour" in refusal(PLAIN + price.replace('date = "2026-01"\n', ""))

    def test_group_sizes_and_sparsity_are_numbers_too(self) -> None:
        text = changed("[engines.matrix.rates]", "structured_sparsity = 2.0\n[engines.matrix.rates]")
        found = dict(numbers(read_device(text, "x")))
        assert found["engines.matrix.structured_sparsity"] == 2.0


def test_every_role_topology_scope_and_format_is_accepted() -> None:
    for role in MemoryLevel.ROLES:
        if role != "main":
            extra = f'[memory.more]\nlabel = "m"\nrole = "{role}"\ncapacity = "1 GB"\nbandwidth = "1 GB/s"\n'
            assert read_device(PLAIN + extra, "x").memory["more"].role == role
    for topology in Link.TOPOLOGIES:
        assert read_device(changed('scope = "host"', f'scope = "host"\ntopology = "{topology}"'), "x").engines
    for scope in Link.SCOPES:
        assert read_device(changed('scope = "host"', f'scope = "{scope}"'), "x").engines
    for name in ARITHMETICS:
        assert read_device(changed("bf16 =", f"{name} ="), "x").engines
    for kind in Device.KINDS:
        assert read_device(changed('kind = "gpu"', f'kind = "{kind}"'), "x").engines


class TestTiers:
    # Issue "Catalogues": multi-tier (HBM, DDR, SSD) and disaggregated memory are expressible.
    POOL = """
[memory.pool]
label = "CXL pool"
role = "tier"
capacity = "8 TB"
bandwidth = "256 GB/s"
latency = "0.4 us"
shared_by = 8
link = "pcie"
"""

    def test_devices_share_a_pool(self) -> None:
        device = read_device(PLAIN + self.POOL, "x")
        alone, many = Machine("x", device).tiers["pool"], Machine("8xx", device, 8).tiers["pool"]
        assert (alone.capacity_bytes, alone.bytes_per_s) == (8e12, 256e9)
        assert (many.capacity_bytes, many.bytes_per_s) == (1e12, 32e9)
        assert Machine("16xx", device, 8, 2).tiers["pool"] == many, "a second node has a pool of its own"

    def test_a_copy_takes_the_slower_of_pool_and_link(self) -> None:
        device = read_device(PLAIN + self.POOL, "x")
        bounds = [bound_s(Machine("x", device, n), Transfer(bytes=64e9, tier="pool")) for n in (1, 2, 8)]
        # PCIe: 64 GB/s for each; the pool: 256 GB/s for all.
        assert bounds == pytest.approx([1.0, 1.0, 2.0])

    def test_a_tier_of_the_device_itself(self) -> None:
        extra = '[memory.ddr]\nlabel = "DDR"\nrole = "tier"\ncapacity = "1 TB"\nbandwidth = "100 GB/s"\n'
        machine = Machine("x", read_device(PLAIN + extra, "x"), 8)
        assert bound_s(machine, Transfer(bytes=100e9, tier="ddr", direction="write")) == pytest.approx(1.0)

    def test_a_tier_needs_a_bandwidth_or_a_link(self) -> None:
        assert "memory.pool.bandwidth" in refusal(
            PLAIN + '[memory.pool]\nlabel = "p"\nrole = "tier"\ncapacity = "1 TB"\n'
        )
        assert "memory.pool.link" in refusal(PLAIN + self.POOL.replace('"pcie"', '"pci"'))

    def test_an_unknown_tier_is_refused_with_those_that_exist(self) -> None:
        with pytest.raises(RidgepointError, match="pool"):
            bound_s(Machine("x", read_device(PLAIN + self.POOL, "x")), Transfer(bytes=1.0, tier="pol"))


def bound_s(machine: Machine, op: Transfer) -> float:
    from ridgepoint.kernels.demand import settle
    from ridgepoint.kernels.transfer import bound, expected

    least, real = settle(bound(op, machine)).time_s, settle(expected(op, machine)).time_s
    assert least < real
    return float(least)


# Bad input (issue "Bad input"): an error sentence or a result, never a traceback.
VALUES: tuple[str, ...] = (
    "nan",
    "-inf",
    "-1",
    "0",
    "1e400",
    f"1{'0' * 400}",
    f"1{'0' * 5000}",
    '""',
    '"x"',
    '"-5 GB"',
    '"1e400 GB"',
)
VALUES += ("[]", "{}", "{ a = 1 }", "true", "1979-05-27", '"\\u0000"', '"٣ GB"', "[1, [2]]", "[" * 2000)
LINES: tuple[str, ...] = (
    "[x]",
    "x = 1",
    "[[engines]]",
    "\x00",
    "devices = 0",
    "[memory.more]",
    "[coefficients.gemm]\ntail = 7",
)
LINES += ("[coefficients.power]\nspread = -1", "[engines.more.rates]\nfp33 = 1", '[links.more]\nlabel = "x"')
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def read_and_use(text: str | dict[str, Any]) -> None:
    """What everyone does with a sheet; only an error of ours may come out."""
    with contextlib.suppress(RidgepointError):
        device = read_device(text, "x.toml") if isinstance(text, str) else device_from(text, "x.toml")
        machine = Machine("x", device, 2, 2)
        assert machine.coefficients.device.launch_s >= 0.0
        assert machine.memory_bytes > 0.0
        assert math.isfinite(machine.vector_flop_per_s)
        assert machine.cache is None or machine.cache[2] > 0.0
        assert all(provenance(device, path) is not None for path, _ in numbers(device))
        for name in ("nvfp4", "fp8", "bf16", "int8"):
            assert machine.arithmetic(name).flop_per_s > 0.0
            machine.engine_rate("vector", name)
        machine.link("node"), machine.link("cluster"), machine.tiers


def mutated(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        at, what = chance.randrange(len(lines)), chance.randrange(6)
        if what == 0 and len(lines) > 1:
            del lines[at]
        elif what == 1:
            lines[at] = lines[at].split("=")[0] + "= " + chance.choice(VALUES)
        elif what == 2:
            lines.insert(at, chance.choice(LINES))
        elif what == 3:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        elif what == 4:
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        else:
            lines[at] = lines[at][:at] + chr(chance.randrange(1, 300)) + lines[at][at:]
    return "\n".join(lines)


@given(name=st.sampled_from(sorted(SHEETS)), chance=st.randoms(use_true_random=False))
def test_a_mutated_sheet_gives_a_device_or_a_sentence(name: str, chance: random.Random) -> None:
    read_and_use(mutated(SHEETS[name], chance))


@given(text=st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_rubbish_gives_a_sentence(text: str) -> None:
    refusal(text)


@given(name=st.sampled_from(sorted(SHEETS)), key=st.integers(0, 10**6), value=JSON)
def test_a_value_of_any_type_anywhere_gives_a_device_or_a_sentence(name: str, key: int, value: Any) -> None:
    raw = tomllib.loads(SHEETS[name])
    places = list(walk(raw))
    table, field = places[key % len(places)]
    table[field] = value
    read_and_use(raw)


def walk(table: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    found = []
    for key, value in table.items():
        found.append((table, key))
        if isinstance(value, dict):
            found += walk(value)
    return found
