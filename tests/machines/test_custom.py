"""Changed and custom machines (issue "Catalogues": a parametric ``custom`` machine from options)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device, find_machine
from ridgepoint.machines.custom import custom_device, parse_spec, with_options
from ridgepoint.machines.description import numbers, provenance
from ridgepoint.machines.machine import Arithmetic
from ridgepoint.machines.settings import SETTINGS, SYNONYMS

WHOLE = {
    "bf16": "400T", "fp8": "800T", "vector": "50T", "special": "2T", "memory": "64G", "bandwidth": "2T",
    "cache": "50M", "cache-bandwidth": "5T", "tier": "1T", "tier-bandwidth": "100G", "multiprocessors": "100",
    "clock": "1.5G", "launch": "2us", "link": "200G", "topology": "ring", "node": "4", "link-latency": "1us",
    "host": "64G", "network": "50G", "network-latency": "5us",
    "pod": "8", "oversubscription": "4", "host-cores": "64", "host-memory": "1T", "host-bandwidth": "300G",
    "storage": "10G", "tdp": "500W", "idle": "60", "price": "2.5", "kind": "npu", "family": "generic", "title": "Mine",
}  # fmt: skip


def refusal(name: str) -> str:
    with pytest.raises(RidgepointError) as error:
        find_machine(name)
    assert error.value.hint
    return str(error.value)


def estimated(machine: str, **sizes: float) -> rp.Estimate:
    return rp.estimate("llama-3.1-8b", on=machine, task=rp.Decode(**sizes))


class TestCustom:
    def test_every_word_sets_its_value(self) -> None:
        machine = find_machine("4xcustom:" + ",".join(f"{k}={v}" for k, v in WHOLE.items()))
        device = machine.device
        assert device.engines["matrix"].rates == {"bf16": 4e14, "fp8": 8e14}
        assert (machine.vector_flop_per_s, machine.engine_rate("special")) == (5e13, 2e12)
        assert (machine.main_memory, machine.memory_bytes, machine.memory_bytes_per_s) == ("hbm", 64e9, 2e12)
        assert machine.cache == ("cache", 50e6, 5e12)
        assert machine.tiers["tier"].bytes_per_s == 1e11
        assert (machine.multiprocessors, device.chip.clock) == (100, 1.5e9)
        assert machine.coefficients.device.launch_s == pytest.approx(2e-6)
        link, network, host = device.links["link"], device.links["network"], device.links["host"]
        assert (link.bandwidth, link.topology, link.devices) == (2e11, "ring", 4)
        assert link.latency == pytest.approx(1e-6)
        assert network.latency == pytest.approx(5e-6)
        assert (network.pod, network.oversubscription) == (8, 4.0)
        assert (network.bandwidth, host.bandwidth) == (5e10, 6.4e10)
        assert device.host is not None
        assert device.storage is not None
        assert (device.host.cores, device.host.memory, device.storage.bandwidth) == (64, 1e12, 1e10)
        assert device.price is not None
        assert (device.power.tdp, device.power.idle, device.price.usd_per_hour) == (500.0, 60.0, 2.5)
        assert (device.kind, device.family, device.title, machine.devices_per_node) == ("npu", "generic", "Mine", 4)
        elsewhere = {"threads", "little-threads"}  # of processors alone: tests/machines/test_threads.py
        assert set(WHOLE) | elsewhere >= {name for name, s in SETTINGS.items() if s.unit != "FLOP/s"}, "a word untested"

    def test_every_value_says_that_the_user_gave_it(self) -> None:
        device = custom_device(WHOLE)
        sources = {path: provenance(device, path) for path, _ in numbers(device)}
        assert {source.title for source in sources.values() if source} == {"given by the user"}

    def test_three_figures_are_enough(self) -> None:
        device = custom_device({"bf16": "989.4T", "memory": "80G", "bandwidth": "3.35T", "clock": "1.83G"})
        assert device.chip.multiprocessors in (131, 132, 133), "an H100's figures give an H100's multiprocessors"
        source = provenance(device, "chip.multiprocessors")
        assert source is not None
        assert "default" in source.title
        assert provenance(device, "chip.clock") != source
        assert not device.links
        assert device.power.tdp is None

    @pytest.mark.parametrize("missing", ["bf16", "memory", "bandwidth"])
    def test_what_is_missing_is_named_with_an_example(self, missing: str) -> None:
        parts = {"bf16": "400T", "memory": "64G", "bandwidth": "2T"}
        message = refusal("custom:" + ",".join(f"{k}={v}" for k, v in parts.items() if k != missing))
        assert missing in message
        assert "custom:bf16=400T,memory=64G,bandwidth=2T" in message

    def test_it_runs_a_model(self) -> None:
        # Design §3: in bound mode a decode step at batch 1 takes its bytes over the bandwidth.
        slow, fast = (estimated(f"custom:bf16=400T,memory=64G,bandwidth={b}T", batch=1, context=128) for b in (1, 2))
        assert float(slow.bound_s) / float(fast.bound_s) == pytest.approx(2.0, rel=1e-6)
        assert slow.energy_j is None
        assert slow.cost_usd is None

    def test_kinds_name_their_memory(self) -> None:
        cpu = find_machine("custom:fp32=3T,memory=64G,bandwidth=80G,kind=cpu,cores=16")
        assert (cpu.main_memory, cpu.multiprocessors) == ("ddr", 16)
        assert cpu.arithmetic("fp32").engine == "vector"


class TestChanges:
    def test_only_what_is_written_changes(self) -> None:
        base, changed = find_device("h100-sxm"), find_machine("h100-sxm@bandwidth=4.8T,memory=141G").device
        before, after = dict(numbers(base)), dict(numbers(changed))
        different = {path for path in before | after if before.get(path) != after.get(path)}
        assert different == {"memory.hbm.bandwidth", "memory.hbm.capacity"}
        mine = {path for path in after if provenance(changed, path) != provenance(base, path)}
        assert mine == different, "all other values keep their documents"

    @pytest.mark.parametrize("word", [w for w in WHOLE if w not in ("tier", "tier-bandwidth")])
    def test_every_word_changes_a_catalogue_machine(self, word: str) -> None:
        base, changed = find_device("h100-sxm"), find_machine(f"h100-sxm@{word}={WHOLE[word]}").device
        assert changed != base
        assert changed.name == f"h100-sxm@{word}={WHOLE[word]}"
        mine = [p for p, _ in numbers(changed) if provenance(changed, p) != provenance(base, p)]
        assert mine or word in ("launch", "topology", "kind", "family", "title")

    def test_the_base_of_a_custom_machine(self) -> None:
        by_base = find_machine("4xcustom:base=h100-sxm,bandwidth=4.8T")
        assert by_base.device == find_machine("h100-sxm@bandwidth=4.8T").device

    def test_counts_aliases_and_systems_take_changes(self) -> None:
        assert find_machine("16x8xh100@network=100G").devices == 128
        dgx = find_machine("2xdgx-h100@network=100G")
        assert dgx.devices == 16
        assert dgx.device.links["network"].bandwidth == 1e11
        assert dgx.device.host == find_machine("dgx-h100").device.host

    def test_a_rate_goes_to_the_engine_that_computes_it(self) -> None:
        assert find_machine("h100-sxm@fp64=100T").arithmetic("fp64") == Arithmetic("matrix", "fp64", 1e14)
        assert find_machine("epyc-9654@bf16=30T").arithmetic("bf16").engine == "vector"
        assert find_machine("a100@fp8=624T").arithmetic("fp8").note == ""

    def test_a_changed_price_is_not_the_providers(self) -> None:
        device = find_machine("h100-sxm@price=1").device
        source = provenance(device, "price.usd_per_hour")
        assert source is not None
        assert source.title == "given by the user"

    def test_faster_memory_is_not_slower(self) -> None:
        # Design §3: nothing gets slower when a resource gets faster.
        times = [float(estimated(f"h100-sxm@bandwidth={b}T", batch=8, context=4096).time_s) for b in (1, 2, 3, 4, 6)]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("h100-sxm@bandwith=3T", "bandwidth"),
        ("h100-sxm@hmb=3T", "hbm"),
        ("h100-sxm@bandwidth=fast", "3.35 TB/s"),
        ("h100-sxm@bandwidth=3TB", "B/s"),
        ("h100-sxm@bandwidth=0", "positive"),
        ("h100-sxm@bandwidth=-2T", "positive"),
        ("h100-sxm@tdp=inf", "W"),
        ("h100-sxm@price=free", "number"),
        ("h100-sxm@price=nan", "positive"),
        ("h100-sxm@multiprocessors=1.5", "whole"),
        ("h100-sxm@node=1", "at least 2"),
        ("h100-sxm@topology=mash", "mesh"),
        ("h100-sxm@kind=gpux", "gpu"),
        ("h100-sxm@family=hoper", "hopper"),
        ("h100-sxm@bandwidth=3T,hbm=4T", "twice"),
        ("h100-sxm@bandwidth=3T,bandwidth=4T", "twice"),
        ("h100-sxm@bandwidth", "KEY=VALUE"),
        ("h100-sxm@", "KEY=VALUE"),
        ("custom:", "KEY=VALUE"),
        ("custom:base=h100-smx,memory=1G", "h100-sxm"),
        ("h100-smx@bandwidth=3T", "h100-sxm"),
        ("h100-sxm@tier-bandwidth=1T", "tier=SIZE"),
        ("rtx-4090@network-latency=1us", "network=RATE"),
        ("2xcustom:bf16=1T,memory=1G,bandwidth=1T", "link=50G"),
        ("2x8xrtx-4090", "2x8xrtx-4090@network=50G"),
    ],
)
def test_mistakes_are_explained(name: str, says: str) -> None:
    assert says in refusal(name)


def test_the_hint_about_a_missing_link_works() -> None:
    # A hint that does not work is worse than none.
    assert find_machine("2x8xrtx-4090@network=50G").devices == 16
    assert find_machine("2xcustom:bf16=1T,memory=1G,bandwidth=1T,link=50G").devices == 2


def test_synonyms_mean_words() -> None:
    assert set(SYNONYMS.values()) <= set(SETTINGS)
    assert not set(SYNONYMS) & set(SETTINGS)


def test_options_on_top_of_changes() -> None:
    assert with_options("h100-sxm@memory=1T", {"hbm": "2T"}) == "h100-sxm@memory=1T,hbm=2T"
    assert with_options("custom:bf16=1T", {"hbm": "2T"}) == "custom:bf16=1T,hbm=2T"
    assert with_options("h100-sxm", {}) == "h100-sxm"


@given(st.text(alphabet="abcfhmptx0189=,.@:- \0é", max_size=40))
def test_any_text_gives_a_machine_or_a_sentence(text: str) -> None:
    for name in (text, f"custom:{text}", f"h100-sxm@{text}", f"8x{text}"):
        with contextlib.suppress(RidgepointError):
            assert find_machine(name).devices >= 1


@given(st.sampled_from(sorted(SETTINGS)), st.text(max_size=8))
def test_any_value_gives_a_machine_or_a_sentence(word: str, value: str) -> None:
    with contextlib.suppress(RidgepointError):
        assert custom_device({word: value}, find_device("h100-sxm")).engines


def test_a_specification_is_pairs() -> None:
    assert parse_spec(" a = 1 , b=2 ") == {"a": "1", "b": "2"}
