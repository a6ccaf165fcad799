"""What the host does for every kernel: launches in one graph, a leaner runtime, samples prepared on the device."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.numeric import Num
from ridgepoint.ops import Storage, Stream, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Train, inference
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, has_host, task_is
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_phases, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.techniques.tile_kernels import with_coefficients
from ridgepoint.work import Overlap, Seq, Work


def _dispatched(given: Scenario, values: Values) -> str:
    """Some kernels are started one by one by a host."""
    machine = given.machine
    if not inference.has_host(machine):
        return f"{machine.device.name} runs its operators itself: no host starts its kernels"
    each = any(not phase.captured for phase in given.build().phases)
    return "" if each else "all kernels are started in captured graphs already"


@technique(
    "graph-capture",
    title="kernels recorded once, started as one graph",
    mechanism=("compiler_autotune", "host_parallelism"),
    papers=("multimodal-gen-characterization", "skip-tklqt"),
    quality="the same results; shapes are fixed per graph",
    grade="exact",
    cannot=_dispatched,
    occupies=("launches",),
)
def graph_capture(given: Scenario, values: Values) -> Scenario:
    """The host starts one graph per pass instead of every kernel: max(host, device) loses its host side.

    From kernel to kernel the device still takes its own time to start. Nothing is gained where kernels last longer than their
    dispatch: large batches, long prompts.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     return rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=batch), apply=apply).time_s
    >>> time(1) / time(1, "graph-capture") > 1.2, 1.0 <= time(1024) / time(1024, "graph-capture") < 1.02
    (True, True)
    """
    return with_plan(given, graph_capture=True)


def _leaner(given: Scenario, values: Values) -> str:
    table = given.machine.coefficients.host
    present = table.dispatch_s if given.plan.compiled else table.eager_s
    return "" if values["dispatch"] < present else f"its host starts a kernel in {present * 1e6:.3g} µs already"


@technique(
    "lean-dispatch",
    title="a runtime that starts kernels sooner",
    mechanism=("compiler_autotune", "host_parallelism", "kernel_fusion"),
    papers=("skip-tklqt", "multimodal-gen-characterization"),
    quality="the same results",
    grade="exact",
    cannot=every(_dispatched, _leaner),
    parameters=(
        Parameter("dispatch", 1.5e-6, "host time to start one kernel", 1e-9, 1.0, unit="s", one_value=True),
    ),
    occupies=("launches",),
)  # fmt: skip
def lean_dispatch(given: Scenario, values: Values) -> Scenario:
    """The host spends ``dispatch`` per kernel: compiled code instead of an interpreter, or a better processor.

    time = max(kernels · dispatch, device): it helps up to the batch where the device becomes the slower one.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     return rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=batch), apply=apply).time_s
    >>> time(1) / time(1, "lean-dispatch") > 1.2, 1.0 <= time(1024) / time(1024, "lean-dispatch") < 1.02
    (True, True)
    """
    said = "host time per kernel stated with the technique lean-dispatch"
    return replace(
        given,
        machine=with_coefficients(
            given.machine, "host", said, **dict.fromkeys(("dispatch_s", "eager_s"), values["dispatch"])
        ),
    )


@technique(
    "preprocessing-on-device",
    title="samples decoded and resized on the accelerator",
    mechanism=("data_pipeline", "custom_accelerator"),
    papers=("beyond-inference", "piper-preprocessing"),
    quality="the same samples up to the decoder's rounding",
    grade="exact",
    cannot=every(task_is(Forward, Train), has_host),
    parameters=(
        Parameter("stored", 110e3, "bytes of a sample as it is stored", 0.0, 1e12, unit="bytes"),
        Parameter("pixels", 200e3, "pixels (or values) of a decoded sample", 0.0, 1e12),
        Parameter("operations", 200.0, "simple operations to decode and resize one of them", 0.0, 1e9),
        Parameter("cached", 0.0, "part of the samples that the host's memory holds", 0.0, 1.0),
        Parameter("overlap", True, "samples are fetched while the device works on those before"),
    ),
    neutral={"stored": 0.0, "pixels": 0.0},
    occupies=("input",),
    presumes="samples arrive compressed and must be decoded",
)
def preprocessing_on_device(given: Scenario, values: Values) -> Scenario:
    """Compressed samples cross the link; the device decodes them: stored bytes over storage and link, operations per pixel.

    The counterpart of ``input-pipeline``, where the host's processors do this: the device loses time to decoding, the host
    none. Compare the two; either adds to an estimate that takes samples as present.

    >>> import ridgepoint as rp
    >>> def rate(*apply: str) -> float:
    ...     return rp.estimate("resnet50", on="a100-sxm-80gb", task=rp.Forward(batch=256), apply=apply).samples_per_s
    >>> rate("input-pipeline:workers=8,cached=1") < rate("preprocessing-on-device:cached=1") < rate()
    True
    """
    return edited(given, "preprocessing-on-device", _decoded, values)


def _decoded(built: Built, given: Scenario, values: Values) -> Built:
    samples: Num = built.samples / built.layout.dp
    count = samples * values["pixels"]
    fetched: tuple[Work, ...] = (
        Storage(bytes=samples * values["stored"] * (1.0 - values["cached"]), accesses=samples, label="input.read"),
        Transfer(bytes=samples * values["stored"], label="input.copy"),
    )
    decode = Stream(
        read_bytes=samples * values["stored"] + 3.0 * count, write_bytes=9.0 * count, flop=count * values["operations"],
        launches=4.0, label="input.decode",
    )  # fmt: skip
    idle = isinstance(values["pixels"], float) and values["pixels"] == 0.0

    def change(phase: Phase) -> Phase:
        work = phase.work if idle else Seq(decode, phase.work)
        return replace(phase, work=Overlap(work, *fetched) if values["overlap"] else Seq(*fetched, work))

    return with_phases(built, change)
