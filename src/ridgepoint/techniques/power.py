"""Power and prices: caps on power, cheaper devices that may be taken away, checkpoints and stragglers of long runs."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from ridgepoint.cost.energy import idle_w, under_cap
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase, times
from ridgepoint.techniques.conditions import every, has_host, several_devices, trains, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Overlap, Seq, Slowest


def _has_limit(given: Scenario, values: Values) -> str:
    stated = given.machine.device.power.tdp is not None
    return "" if stated else f"the sheet of {given.machine.device.name} states no power limit"


def _above_idle(given: Scenario, values: Values) -> str:
    if unknown := _has_limit(given, values):
        return unknown
    limit, idle = float(values["limit"]) * float(given.machine.device.power.tdp or 0.0), idle_w(given.machine) or 0.0
    return "" if limit > idle else f"{given.machine.device.name} draws {idle:.0f} W when idle, more than {limit:.0f} W"


def _has_price(given: Scenario, values: Values) -> str:
    price = given.machine.device.price
    known = price is not None and price.usd_per_hour is not None
    return "" if known else f"the sheet of {given.machine.device.name} states no price"


@technique(
    "power-cap",
    title="devices run under a lower power limit",
    mechanism=("power_management",),
    papers=("polca",),
    quality="same results",
    grade="exact",
    cannot=_above_idle,
    parameters=(Parameter("limit", 0.7, "power limit over the sheet's", 0.2, 1.0, one_value=True),),
    occupies=("power limit",),
    neutral={"limit": 1.0},
)
def power_cap(given: Scenario, values: Values) -> Scenario:
    """The clock falls until full load fits under the cap, with all that follows it: engines, caches. Memory keeps its rate.

    Dynamic power grows like the clock to the power of 2.4, so a little speed buys much power. Decoding, which waits for
    main memory, loses least. The same as ``simulate --power-cap`` (``cost/energy.py``).

    >>> import ridgepoint as rp
    >>> def slower(task: rp.Prefill | rp.Decode) -> float:
    ...     runs = [rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=a) for a in (["power-cap:limit=0.6"], [])]
    ...     return runs[0].time_s / runs[1].time_s
    >>> slower(rp.Prefill(batch=8, prompt=2048)) > slower(rp.Decode(batch=1, context=1024))
    True
    """
    limit = float(values["limit"]) * float(given.machine.device.power.tdp or 0.0)
    return replace(given, machine=under_cap(given.machine, limit))


def addition_saving(multiply_j: Num, add_j: Num, accumulate_j: Num) -> Num:
    """Part of a dot product's arithmetic energy that is left when multiplications become integer additions.

    (E_add + E_accumulate) / (E_multiply + E_accumulate); L-Mul (Luo and Sun 2024), with energies per operation of a 45 nm
    process by Horowitz (2014): 3.7 pJ for a multiplication in fp32, 0.1 pJ for an addition of 32-bit integers.

    >>> round(addition_saving(3.7e-12, 0.1e-12, 0.0), 3), round(addition_saving(3.7e-12, 0.1e-12, 0.9e-12), 3)
    (0.027, 0.217)
    """
    return plain((np.asarray(add_j) + accumulate_j) / (np.asarray(multiply_j) + accumulate_j))


def _energy(name: str, default: float, meaning: str) -> Parameter:
    return Parameter(name, default, meaning, 0.0, 1000.0, unit="pJ", one_value=True)


@technique(
    "approximate-multiplication",
    title="multiplications by integer additions of exponents and mantissas, in engines made for it",
    mechanism=("approximate_arithmetic", "custom_accelerator"),
    papers=("l-mul",),
    quality="with 4 bits of mantissa about that of fp8 with e4m3 (as reported)",
    grade="near",
    cannot=_has_limit,
    parameters=(
        _energy("multiply", 3.7, "energy of a multiplication"),
        _energy("add", 0.1, "energy of the integer addition in its place"),
        _energy("accumulate", 0.9, "energy of adding a product to the sum"),
        Parameter("share", 0.5, "part of the engines' dynamic power that is arithmetic", 0.0, 1.0, one_value=True),
    ),
    occupies=("arithmetic energy",),
    neutral={"share": 0.0},
    presumes="the device has such engines, as fast as its own",
)
def approximate_multiplication(given: Scenario, values: Values) -> Scenario:
    """Engines draw 1 − share + share · (E_add + E_acc) / (E_mul + E_acc) of their power; time and bytes stay.

    Dot products keep their additions, so that less is saved than element by element (0.22 instead of 0.03 of the energy is
    left with the defaults), and decoding, which waits for memory, saves little.

    >>> import ridgepoint as rp
    >>> def saved(task: rp.Prefill | rp.Decode) -> float:
    ...     def joule(*apply: str) -> float:
    ...         return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).energy_j
    ...     return 1.0 - joule("approximate-multiplication") / joule()
    >>> 0.2 < saved(rp.Prefill(batch=8, prompt=2048)) < 0.4, saved(rp.Decode(batch=1, context=1024)) < 0.1
    (True, True)
    """
    left = addition_saving(values["multiply"], values["add"], values["accumulate"])
    factor = 1.0 - float(values["share"]) * (1.0 - float(left))
    device, table = given.machine.device, given.machine.coefficients.power
    weights = {r: w * factor if r in device.engines else w for r, w in table.weights.items()}
    own = dict(device.coefficients.get("power", {})) | {"weights": weights}
    device = msgspec.structs.replace(device, coefficients=dict(device.coefficients) | {"power": own})
    return replace(given, machine=replace(given.machine, device=device))


@technique(
    "spot-devices",
    title="interruptible devices at a discount",
    mechanism=("heterogeneous_allocation", "fault_tolerance"),
    papers=("swarm-parallelism", "dedloc"),
    quality="same results",
    grade="exact",
    cannot=_has_price,
    parameters=(
        Parameter("discount", 0.6, "part of the price that is saved", 0.0, 0.99, one_value=True),
        Parameter("interruptions", 0.1, "interruptions per device and hour", 0.0, 60.0),
        Parameter("lost_s", 300.0, "work lost and time to restart per interruption", 0.0, 36000.0, unit="s"),
    ),
    occupies=("price",),
    neutral={"discount": 0.0, "interruptions": 0.0},
    presumes="the run can be interrupted",
)
def spot_devices(given: Scenario, values: Values) -> Scenario:
    """A device costs 1 − discount of its price, and every interruption, of any of the devices, repeats ``lost_s`` of work.

    Time grows by 1 + devices · interruptions/h · lost/3600; money falls by the discount and grows with the time.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Train(batch=64, seq=2048), apply=apply)
    >>> run("spot-devices").cost_usd < run().cost_usd, run("spot-devices").time_s > run().time_s
    (True, True)
    """
    device = given.machine.device
    price = device.price
    assert price is not None
    cheaper = msgspec.structs.replace(
        price, usd_per_hour=float(price.usd_per_hour or 0.0) * (1.0 - float(values["discount"]))
    )
    machine = replace(given.machine, device=msgspec.structs.replace(device, price=cheaper))

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        again = np.asarray(values["interruptions"]) * np.asarray(values["lost_s"]) / 3600.0 * given.machine.devices
        return with_phases(built, lambda phase: replace(phase, count=phase.count * (1.0 + again)))

    return edited(replace(given, machine=machine), "spot-devices", rework, values)


@technique(
    "checkpoints",
    title="checkpoints of a training run, blocking or in the background",
    mechanism=("checkpointing", "fault_tolerance"),
    papers=("datastates-llm",),
    quality="same updates",
    grade="exact",
    cannot=every(
        trains, has_host, wants(lambda g, _: g.machine.device.storage is not None, "its sheet has no storage")
    ),
    parameters=(
        Parameter("every", 100.0, "steps between two checkpoints", 1.0, 1e6, whole=True),
        Parameter("background", True, "copied beside the forward and backward passes of the next steps"),
    ),
    occupies=("checkpoints",),
)
def checkpoints(given: Scenario, values: Values) -> Scenario:
    """Every n-th step writes weights, master weights and moments to storage: before the next step, or beside it.

    Maurya et al. 2024. The bytes are the ledger's weights and optimizer states of each device; in the background they hide
    behind n steps as far as the links have room.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task = rp.Train(batch=8, seq=2048)
    ...     return rp.estimate("llama-3.1-8b", on="dgx-a100", task=task, plan=rp.Plan(tp=8), apply=apply).time_s
    >>> run() <= run("checkpoints:every=1") < run("checkpoints:every=1,background=false")
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        entries = built.ledger.entries
        size = entries["weights"] + entries.get("optimizer", 0.0)
        write = Transfer(bytes=size, tier="storage", direction="write", label="checkpoint")

        def change(phase: Phase) -> Phase:
            per_step = times(1.0 / np.asarray(values["every"]), write)
            joined = Overlap(phase.work, per_step) if values["background"] else Seq(phase.work, per_step)
            return replace(phase, work=joined)

        return with_phases(built, change)

    return edited(given, "checkpoints", rework, values)


@technique(
    "stragglers",
    title="devices that are not equally fast",
    mechanism=("load_balancing", "fault_tolerance"),
    papers=("sequential-gradient-coding", "c4-alibaba"),
    quality="same results",
    grade="exact",
    cannot=every(trains, several_devices),
    parameters=(Parameter("spread", 0.05, "coefficient of variation of a device's time", 0.0, 1.0),),
    occupies=("stragglers",),
    neutral={"spread": 0.0},
)
def stragglers(given: Scenario, values: Values) -> Scenario:
    """A step takes as long as the slowest of all devices: what healthy hardware, or coded work, does away with.

    Expected maximum of n times with the given spread; with spread 0 nothing changes. It makes a run slower on purpose: the
    baseline of work against stragglers.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=64, seq=2048), rp.Plan(zero_stage=1)
    ...     return rp.estimate("llama-3.1-8b", on="8x8xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("stragglers:spread=0.1") > run("stragglers:spread=0.01") > run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        count = float(given.machine.devices)
        return with_phases(built, lambda phase: replace(phase, work=Slowest(count, phase.work, values["spread"])))

    return edited(given, "stragglers", rework, values)
