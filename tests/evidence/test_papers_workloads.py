"""Workloads of papers: every one is a scenario that can be analyzed, and its command says the same (issue "Evidence")."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from ridgepoint.cli.options import takes_scenario
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.evidence.papers.catalog import papers
from ridgepoint.evidence.papers.rows import Workload
from ridgepoint.evidence.papers.workloads import to_request
from ridgepoint.request import Request, command_of, to_scenario

WITH = {slug: paper.workload for slug, paper in papers().items() if paper.workload is not None}
TOO_LARGE = {
    "fiddler": "experts that do not fit are the subject",
    "fuyou": "states that do not fit are the subject",
    "generalized-neighborhood-attention": "the whole pipeline is resident and the video decoder is not tiled",
    "ultragen": "the whole pipeline is resident and the video decoder is not tiled",
}
"""Workloads that need more memory than their machine has, and why they stand there all the same."""


@pytest.mark.parametrize("slug", sorted(WITH))
def test_every_workload_is_evaluated(slug: str) -> None:
    scenario = to_scenario(to_request(WITH[slug]))
    estimate = Estimate(scenario, True, "expected")
    assert 0.0 < float(estimate.bound_s) <= float(estimate.time_s) < 3600.0
    assert estimate.bottleneck
    assert bool(estimate.memory.fits) != (slug in TOO_LARGE)


@pytest.mark.parametrize("slug", sorted(WITH))
def test_the_command_says_the_workload(slug: str) -> None:
    """What `papers show` prints, typed into a shell, is the scenario of the data."""
    assert to_scenario(typed(command_of(to_request(WITH[slug])))) == to_scenario(to_request(WITH[slug]))


def typed(line: str) -> Request:
    """The request that the command line makes of a command."""
    said: list[Request] = []

    @takes_scenario
    def analyze(request: Request) -> None:
        said.append(request)

    app = typer.Typer()
    app.command()(analyze)
    result = CliRunner().invoke(app, shlex.split(line)[2:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return said[0]


def test_every_workload_only_row_has_one_or_says_why_not() -> None:
    profiles = [paper for paper in papers().values() if paper.expressible == "profile"]
    assert len(profiles) == 96
    assert all((paper.workload is None) == bool(paper.reason) for paper in profiles)
    assert sum(paper.workload is not None for paper in profiles) >= 75


def test_names_that_the_catalogue_lost_are_refused_by_name() -> None:
    gone = Workload("qqqqqq", "h100-sxm", {"name": "decode"})
    with pytest.raises(RidgepointError, match="unknown model"):
        to_scenario(to_request(gone))


def test_commands_write_every_kind_of_value() -> None:
    request = Request(
        "resnet50",
        "t4",
        "forward",
        {"batch": 8.0},
        {"compiled": False, "graph_capture": True, "fused_attention": False, "memory_fraction": 0.9},
        {"nodes": 1e6},
    )
    assert command_of(request) == (
        "ridgepoint analyze resnet50 --on t4 --task forward --batch 8 --mode eager --graphs --no-fused-attention "
        "--memory-fraction 0.9 --size nodes=1000000.0"
    )
