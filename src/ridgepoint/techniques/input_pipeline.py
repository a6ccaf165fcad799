"""What feeds a network: samples read from storage, prepared by the host's processors and copied to the device."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.numeric import Num
from ridgepoint.ops import Host, Storage, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Train
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, has_host, task_is
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Overlap, Seq, Work


@technique(
    "input-pipeline",
    title="samples come from storage and are prepared by the host",
    mechanism=("data_pipeline", "host_parallelism"),
    papers=("ffcv", "beyond-inference", "melissa-online-surrogate", "piper-preprocessing"),
    quality="the same samples",
    grade="exact",
    cannot=every(task_is(Forward, Train), has_host),
    parameters=(
        Parameter("stored", 110e3, "bytes of a sample as it is stored", 0.0, 1e12, unit="bytes"),
        Parameter("copied", 150528.0, "bytes of a sample as it reaches the device", 0.0, 1e12, unit="bytes"),
        Parameter("prepare", 5e-3, "time of one core to decode and prepare a sample", 0.0, 1e6, unit="s"),
        Parameter("workers", 8.0, "processes per device that prepare samples", 1.0, 4096.0, whole=True),
        Parameter("cached", 0.0, "part of the samples that the host's memory holds", 0.0, 1.0),
        Parameter("overlap", True, "batches are prepared while the device works on the one before"),
    ),
    neutral={"stored": 0.0, "copied": 0.0, "prepare": 0.0},
    occupies=("input",),
)
def input_pipeline(given: Scenario, values: Values) -> Scenario:
    """Each sample is read from storage, prepared by the host and copied; the slowest stage sets the pace where they overlap.

    time = max(device, stored/storage, prepare/workers, copied/link), or their sum without overlap. Devices of a node share its
    storage, its cores and the links to its memory. Without this technique an estimate takes samples as present.

    >>> import ridgepoint as rp
    >>> def rate(*apply: str) -> float:
    ...     return rp.estimate("resnet18", on="a100-sxm-80gb", task=rp.Train(batch=256), apply=apply).samples_per_s
    >>> slow, fast = rate("input-pipeline:prepare=8e-3"), rate("input-pipeline:prepare=1e-3,workers=16")
    >>> round(slow, -2), bool(fast > 3 * slow)
    (1000.0, True)
    """
    return edited(given, "input-pipeline", _fed, values)


def _fed(built: Built, given: Scenario, values: Values) -> Built:
    samples: Num = built.samples / built.layout.dp
    stages: tuple[Work, ...] = (
        Storage(bytes=samples * values["stored"] * (1.0 - values["cached"]), accesses=samples, label="input.read"),
        Host(seconds=samples * values["prepare"], workers=values["workers"], label="input.prepare"),
        Transfer(bytes=samples * values["copied"], label="input.copy"),
    )

    def change(phase: Phase) -> Phase:
        beside = Overlap(phase.work, *stages) if values["overlap"] else Seq(*stages, phase.work)
        return replace(phase, work=beside)

    size = f"{float(values['workers']):g}" if not hasattr(values["workers"], "shape") else "several"
    return assumed(with_phases(built, change), f"samples are read, prepared by {size} processes per device and copied")
