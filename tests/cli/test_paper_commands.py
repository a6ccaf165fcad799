"""Commands that do what a paper's tool does run as they are printed (issue "Evidence": rows that are tools)."""

import shlex

import pytest

from ridgepoint.evidence.papers.catalog import papers
from ridgepoint.laws.registry import law_of
from tests.cli.conftest import Run

COMMANDS = {slug: paper.command for slug, paper in papers().items() if paper.command}


@pytest.mark.parametrize("slug", sorted(COMMANDS))
def test_a_papers_command_runs(run: Run, slug: str) -> None:
    # Wrong: `papers show` prints a command that does not exist any more, or one that is refused.
    program, *words = shlex.split(COMMANDS[slug])
    assert program == "ridgepoint"
    page = run(*words)
    assert page.code == 0, page.err
    assert len(page.out.splitlines()) > 5


@pytest.mark.parametrize(
    "paper", [p for p in papers().values() if p.expressible in ("tool", "bound")], ids=lambda p: p.slug
)
def test_a_tool_or_bound_has_something_to_run_or_says_why_not(paper) -> None:
    """A row that is a tool or a formula has claims, a command or a law; or a reason."""
    assert paper.run or paper.reason
    assert paper.state != "listed" or law_of(paper.slug) is None
    for waiting in ("no calculator stands", "a tool itself"):
        assert waiting not in paper.reason, "the row says of its own why nothing runs"


def test_a_tool_that_is_reproduced_shows_both_commands(run: Run) -> None:
    """Rows with claims are run by `reproduce`; the command that does what the tool does stands beside it."""
    page = run("papers", "show", "genz")
    assert "ridgepoint reproduce genz" in page.out
    assert "ridgepoint require llama-3.1-70b" in page.out
