"""Replicas that send less: fewer bytes per gradient, fewer exchanges, exchanges beside the backward pass."""

from __future__ import annotations

import numpy as np

from ridgepoint.scenario import Scenario, Values
from ridgepoint.techniques.conditions import every, several_devices, trains, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import with_plan
from ridgepoint.techniques.technique import Parameter


@technique(
    "gradient-compression",
    title="gradients exchanged in fewer bits",
    mechanism=("gradient_compression", "data_parallel"),
    papers=("8bit-approx-parallelism", "swarm-parallelism"),
    quality="8 bits are reported to train as 32 do; fewer bits need error feedback",
    grade="near",
    cannot=every(
        trains, several_devices, wants(lambda g, _: g.plan.gradient_bytes is None, "gradients are compressed already")
    ),
    parameters=(
        Parameter("bits", 8.0, "bits per gradient value on the link, scales included", 0.1, 32.0, unit="bits"),
    ),
    occupies=("gradient format",),
)
def gradient_compression(given: Scenario, values: Values) -> Scenario:
    """Each gradient value takes ``bits`` on the links between replicas; it is narrowed before and widened after.

    Dettmers 2016. The exchange falls by bits/16 or bits/32, less the passes that convert: nothing is gained where the
    exchange hides behind the backward pass already.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=16, seq=512), rp.Plan(overlap_gradients=False)
    ...     return rp.estimate("llama-3.2-1b", on="8xrtx-4090", task=task, plan=plan, apply=apply).time_s
    >>> run("gradient-compression:bits=4") < run("gradient-compression:bits=8") < run()
    True
    """
    return with_plan(given, gradient_bytes=np.divide(values["bits"], 8.0))


@technique(
    "local-updates",
    title="replicas that step alone and average now and then",
    mechanism=("data_parallel", "comm_overlap"),
    papers=("co2-overlap", "dedloc"),
    quality="reported as equal in loss for tens of local steps; many more slow convergence",
    grade="near",
    cannot=every(
        trains,
        several_devices,
        wants(lambda g, _: bool(np.all(np.asarray(g.plan.exchange_period) == 1.0)), "replicas step alone already"),
        wants(
            lambda g, _: bool(np.all(np.asarray(g.plan.zero_stage) < 1)), "sharded states need every gradient exchanged"
        ),
    ),
    parameters=(
        Parameter("period", 32.0, "steps between two exchanges", 1.0, 1e5, whole=True),
        Parameter("outer_bytes", 8.0, "bytes per parameter that the outer step keeps", 0.0, 16.0, unit="B"),
    ),
    occupies=("gradient exchange",),
)
def local_updates(given: Scenario, values: Values) -> Scenario:
    """Parameters are averaged every ``period`` steps in place of gradients at each one: bytes sent fall by the period.

    Stich 2019; DiLoCo keeps 8 bytes per parameter (the last averages and a momentum) for its outer step. Compute per step is
    unchanged, so it brings what the exchange takes and no more.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=16, seq=512), rp.Plan(overlap_gradients=False)
    ...     return rp.estimate("llama-3.2-1b", on="8xrtx-4090", task=task, plan=plan, apply=apply).time_s
    >>> run("local-updates:period=64") < run("local-updates:period=2") < run()
    True
    """
    return with_plan(given, exchange_period=values["period"], outer_bytes=values["outer_bytes"])


@technique(
    "overlap-gradients",
    title="gradients exchanged beside the backward pass",
    mechanism=("comm_overlap", "data_parallel"),
    papers=("layered-gradient-accumulation", "megatron-lm"),
    quality="same updates",
    grade="exact",
    cannot=every(
        trains, several_devices, wants(lambda g, _: not g.plan.overlap_gradients, "the exchange is beside it already")
    ),
    occupies=("gradient overlap",),
)
def overlap_gradients(given: Scenario, values: Values) -> Scenario:
    """A layer's gradients are sent while earlier layers run backward: the longer of the two counts, not their sum.

    Li et al. 2020 (bucketed exchange). Only the last micro-batch's backward pass has something to hide.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=64, seq=2048), rp.Plan(overlap_gradients=False, micro_batch=8)
    ...     return rp.estimate("llama-3.2-1b", on="8xrtx-4090", task=task, plan=plan, apply=apply).time_s
    >>> run("overlap-gradients") < run()
    True
    """
    return with_plan(given, overlap_gradients=True)


@technique(
    "overlap-parameters",
    title="sharded weights gathered beside the passes",
    mechanism=("comm_overlap", "data_parallel"),
    papers=("zero", "zero-infinity"),
    quality="same updates",
    grade="exact",
    cannot=every(
        trains,
        several_devices,
        wants(lambda g, _: bool(np.any(np.asarray(g.plan.zero_stage) >= 1)), "no weights are gathered (ZeRO 0)"),
        wants(lambda g, _: not g.plan.overlap_parameters, "weights are gathered beside the passes already"),
    ),
    occupies=("parameter overlap",),
)
def overlap_parameters(given: Scenario, values: Values) -> Scenario:
    """A layer's weights are fetched from their shards while the layer before it computes: the longer of the two counts.

    Rajbhandari et al. 2021 (prefetch). With ZeRO-1 and 2 there is one gather per step, with ZeRO-3 one per pass.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=16, seq=512), rp.Plan(zero_stage=3, overlap_parameters=False)
    ...     return rp.estimate("llama-3.2-1b", on="8xrtx-4090", task=task, plan=plan, apply=apply).time_s
    >>> run("overlap-parameters") < run()
    True
    """
    return with_plan(given, overlap_parameters=True)
