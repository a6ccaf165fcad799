"""The benchmark framework: ratios point the same way, failures are rows, names are unique."""

import pytest

from benchmarks import registry
from benchmarks.__main__ import main
from benchmarks.registry import Result, Spec, benchmark, run, seconds, selected, table


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Spec]:
    fresh: dict[str, Spec] = {}
    monkeypatch.setattr(registry, "SPECS", fresh)
    return fresh


@pytest.mark.parametrize(
    ("better", "figure", "ratio", "reached"),
    [("lower", 0.2, 0.5, True), ("lower", 0.8, 2.0, False), ("higher", 0.8, 0.5, True), ("higher", 0.2, 2.0, False)],
)
def test_a_ratio_of_at_most_one_reaches_the_target(
    better: registry.Better, figure: float, ratio: float, reached: bool
) -> None:
    result = run(Spec("name", "what", "s", 0.4, lambda: figure, better))
    assert result.ratio == pytest.approx(ratio)
    assert result.reached is reached


def test_no_throughput_at_all_misses() -> None:
    assert not Result(Spec("name", "what", "points/s", 1.0, lambda: 0.0, "higher"), 0.0).reached


def test_a_failure_is_a_row_with_its_reason() -> None:
    def broken() -> float:
        raise RuntimeError("no such thing")

    result = run(Spec("name", "what", "s", 0.4, broken))
    assert (result.figure, result.ratio, result.reached) == (None, None, False)
    assert "failed" in table([result])
    assert "RuntimeError: no such thing" in table([result])


def test_the_table_sets_figure_beside_target() -> None:
    rows = table([Result(Spec("name", "what", "s", 0.4, lambda: 0.2), 0.2)]).splitlines()
    assert rows[0].split() == ["benchmark", "measures", "figure", "target", "ratio"]
    assert rows[1].split() == ["name", "what", "0.2", "s", "≤", "0.4", "s", "0.50", "reached"]


def test_names_are_unique_and_targets_positive(specs: dict[str, Spec]) -> None:
    register = benchmark("a.b", measures="what", unit="s", target=1.0)
    register(lambda: 1.0)
    assert list(specs) == ["a.b"]
    assert selected(["a."]) == [specs["a.b"]]
    assert selected(["c"]) == []
    with pytest.raises(ValueError, match="two benchmarks"):
        register(lambda: 1.0)
    with pytest.raises(ValueError, match="must be positive"):
        benchmark("c", measures="what", unit="s", target=0.0)(lambda: 1.0)


def test_seconds_counts_only_the_repeats() -> None:
    calls: list[int] = []
    assert seconds(lambda: calls.append(1), repeats=3, warmups=2) >= 0
    assert len(calls) == 5


def test_the_command_line_refuses_unknown_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-benchmark"]) == 2
    assert "startup.help" in capsys.readouterr().err
