"""Shorter vectors in a search index: projected, or nested prefixes with a second look at the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, network, task_is
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq

_INDEXES = ("flat_search", "ivf", "hnsw")
_SHORT = Parameter("dim", 32.0, "numbers of a shortened vector", 1.0, 1e6, whole=True)


def _inputs(given: Scenario) -> dict[str, Num]:
    """Sizes of the index under the task."""
    assert isinstance(given.model, Network)
    return {**dict(given.model.inputs), **getattr(given.task, "inputs", {})}


def _is_index(given: Scenario, values: Values) -> str:
    model = given.model
    if not isinstance(model, Network) or model.family not in _INDEXES:
        return f"{model.name} is no index of vectors"
    present = _inputs(given)["dim"]
    shorter = bool(np.all(np.asarray(values["dim"]) < np.asarray(present)))
    return "" if shorter else f"its vectors have {np.min(present):g} numbers already"


def _shortened(given: Scenario, values: Values) -> Scenario:
    task = given.task
    assert isinstance(task, Forward)
    return replace(given, task=replace(task, inputs={**task.inputs, "dim": values["dim"]}))


@technique(
    "projected-index",
    title="vectors projected to fewer dimensions (PCA)",
    mechanism=("retrieval_index", "low_rank"),
    papers=("pca-rag", "faiss-gpu"),
    quality="depends on how the embeddings spread; unknown in general",
    grade="near",
    cannot=every(network, task_is(Forward), _is_index),
    parameters=(_SHORT,),
    occupies=("vectors",),
)
def projected_index(given: Scenario, values: Values) -> Scenario:
    """The index keeps ``dim`` numbers per vector; queries are projected by one small product first.

    What a scan reads and the index's size fall by full/dim. Selection of the best reads scores, whose number stays: it is
    what the gain ends at.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Forward(batch=1, inputs={"vectors": 1e7, "dim": 3072})
    ...     return rp.estimate("flat-sift1m", on="epyc-9654", task=task, apply=apply)
    >>> full, few = run(), run("projected-index:dim=110")
    >>> round(full.memory["weights"] / few.memory["weights"], 1), 5 < full.time_s / few.time_s < 28
    (27.9, True)
    """
    edit = {**values, "full": _inputs(given)["dim"]}
    return edited(_shortened(given, values), "projected-index", _projected, edit)


def _projected(built: Built, given: Scenario, values: Values) -> Built:
    queries = per_replica(given.task.sizes()["batch"], built.layout)
    project = Gemm(
        m=queries, n=values["dim"], k=values["full"], acts="fp16", weights="fp16", out="fp16", label="query.project"
    )
    return with_phases(built, lambda phase: replace(phase, work=Seq(project, phase.work)))


@technique(
    "shortlist-search",
    title="a shortlist by prefixes of the vectors, ranked again by whole ones",
    mechanism=("retrieval_index", "adaptive_compute"),
    papers=("matryoshka-representation",),
    quality="Matryoshka embeddings: the same accuracy as whole vectors at a shortlist of a few hundred",
    grade="near",
    cannot=every(network, task_is(Forward), _is_index),
    parameters=(
        _SHORT,
        Parameter("shortlist", 200.0, "vectors that are ranked again in full", 1.0, 1e9, whole=True),
    ),
    occupies=("vectors",),
    training_free=False,
)
def shortlist_search(given: Scenario, values: Values) -> Scenario:
    """Search costs N · d_short + K · d_full instead of N · d_full: whole vectors are read for the shortlist only.

    Prefixes of the stored vectors are a copy of their own, for a scan to be dense; the whole vectors stay in memory.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Forward(batch=1, inputs={"vectors": 1e7, "dim": 2048})
    ...     return rp.estimate("flat-sift1m", on="epyc-9654", task=task, apply=apply)
    >>> full, short = run(), run("shortlist-search:dim=128")
    >>> 5 < full.time_s / short.time_s < 16, short.memory.total_bytes > full.memory.total_bytes
    (True, True)
    """
    edit = {**values, "full": _inputs(given)["dim"]}
    return edited(_shortened(given, values), "shortlist-search", _ranked_again, edit)


def _ranked_again(built: Built, given: Scenario, values: Values) -> Built:
    queries = per_replica(given.task.sizes()["batch"], built.layout)
    width = FORMATS["fp16"].bytes
    candidates = queries * values["shortlist"]
    rank = Stream(
        read_bytes=candidates * values["full"] * width, write_bytes=4.0 * candidates, flop=2.0 * candidates * values["full"],
        pattern="gather", launches=2.0, label="shortlist.rank",
    )  # fmt: skip

    def change(phase: Phase) -> Phase:
        return replace(phase, work=Seq(phase.work, rank))

    whole = _inputs(given)["vectors"] * values["full"] * width
    return with_entries(with_phases(built, change), whole_vectors=whole)
