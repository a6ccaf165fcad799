"""``--chart`` and ``--html``: files beside what commands print, whole or not at all (design §10)."""

from pathlib import Path

import pytest

from tests.cli.conftest import answer

SCENARIO = ("llama-3.1-8b", "--on", "h100-sxm", "--task", "decode", "--batch", "8", "--context", "8k")


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("analyze", *SCENARIO), ("shares", "roofline", "time", "memory")),
        (("advise", *SCENARIO, "--objective", "energy"), ("waterfall", "roofline")),
        (("sweep", *SCENARIO[:5], "--vary", "batch=1,8,64", "--vary", "context=1k,32k"), ("time_s", "bottleneck")),
        (
            (
                "plan",
                "train",
                "llama-3.2-1b",
                "--on",
                "4xa100-sxm-80gb",
                "--global-batch",
                "16",
                "--seq",
                "2k",
                "--pp",
                "2",
            ),
            ("shares", "pipeline", "pipeline_memory"),
        ),
        (("reproduce", "keyformer"), ()),
        (
            ("analyze", "gpt2", "--on", "t4", "--task", "serve", "--prompt", "128", "--output", "32"),
            ("throughput", "latency"),
        ),
        (("simulate", "gpt2", "--on", "t4", "--rate", "5", "--requests", "60"), ("latencies", "requests", "cache")),
    ],
)
def test_commands_write_their_charts(tmp_path: Path, command: tuple[str, ...], names: tuple[str, ...]) -> None:
    files = {name: tmp_path / f"{name}.svg" for name in names}
    asked = [word for name, path in files.items() for word in ("--chart", f"{name}={path}")]
    everything = tmp_path / "all.svg"
    found = answer(*command, *asked, "--chart", str(everything), "--json")
    if found.code == 2:  # a paper whose figures cannot be compared draws nothing, and says so
        assert '"unknown_chart"' in found.out
        return
    assert found.code == 0, found
    assert all(path.read_text().startswith("<svg xmlns=") for path in (*files.values(), everything))


@pytest.mark.parametrize("wrong", ["rofline={}/x.svg", "{}/x.gif", "time={}/none/x.svg"])
def test_what_is_wrong_is_said_and_leaves_nothing(tmp_path: Path, wrong: str) -> None:
    good = tmp_path / "good.svg"
    found = answer("analyze", *SCENARIO, "--chart", wrong.format(tmp_path), "--chart", f"time={good}")
    assert found.code == 2
    assert "Traceback" not in found.err
    assert list(tmp_path.glob("*.svg")) == []


def test_a_simulation_is_a_page_with_its_command(tmp_path: Path) -> None:
    page = tmp_path / "simulation.html"
    asked = ("simulate", "gpt2", "--on", "t4", "--rate", "5", "--requests", "60", "--ttft", "1s", "--html", str(page))
    assert answer(*asked).code == 0
    text = page.read_text()
    assert "ridgepoint simulate gpt2 --on t4 --rate 5" in text
    assert "of requests keep the goals" in text
    assert "<script" not in text
    assert len(text) < 500_000


def test_an_operating_curve_is_a_page(tmp_path: Path) -> None:
    page = tmp_path / "curve.html"
    asked = (
        "analyze",
        "gpt2",
        "--on",
        "t4",
        "--task",
        "serve",
        "--prompt",
        "128",
        "--output",
        "32",
        "--html",
        str(page),
    )
    assert answer(*asked).code == 0
    text = page.read_text()
    assert "At the knee" in text
    assert text.count("<svg") >= 3
    assert "--task serve" in text
