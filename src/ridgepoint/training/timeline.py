"""The pipeline of one estimated layout, pass by pass: real times of its stages on the simulator."""

from __future__ import annotations

from ridgepoint.cost.combine import combine
from ridgepoint.cost.evaluate import Cost
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.demand import settle
from ridgepoint.training.layouts import LaidOut
from ridgepoint.training.schedule import TimeLine, simulate
from ridgepoint.work import Pipeline, Work, walk


def timeline(layout: LaidOut) -> TimeLine:
    """The schedule of ``layout``'s step: every stage's passes with their expected times.

    Errors: ``bad_plan`` where there is only one stage.
    """
    pipelines = [node for node in walk(layout.estimate.work) if isinstance(node, Pipeline)]
    if not pipelines:
        raise RidgepointError("bad_plan", "one pipeline stage has no schedule to show", "fix --pp to at least 2")
    (pipeline,) = pipelines
    return pipeline_timeline(pipeline, layout.estimate.cost)


def pipeline_timeline(pipeline: Pipeline, cost: Cost) -> TimeLine:
    """The schedule of one pipeline of the work behind ``cost``."""
    demands = cost.demands

    def seconds(part: Work | None) -> float:
        return 0.0 if part is None else float(combine(part, lambda op: settle(demands[id(op)])).time_s)

    stages = [
        tuple(map(seconds, (stage.forward, stage.backward, stage.weight_gradient, stage.send)))
        for stage in pipeline.stages
        for _ in range(round(float(stage.count)))
    ]
    forward, backward, weights, sends = (list(column) for column in zip(*stages, strict=True))
    return simulate(
        forward,
        None if pipeline.schedule == "forward" else backward,
        microbatches=round(float(pipeline.microbatches)),
        schedule=pipeline.schedule,
        chunks=round(float(pipeline.chunks)),
        send_s=sends,
        weights_s=weights,
    )
