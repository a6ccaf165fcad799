"""How soon a command answers: whole processes, from start to exit."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.registry import benchmark, seconds

RIDGEPOINT = str(Path(sys.executable).with_name("ridgepoint"))
ANALYZE = ["analyze", "llama-3.1-8b", "--on", "h100-sxm", "--task", "decode", "--batch", "32", "--context", "8192"]


def process_s(command: Sequence[str]) -> float:
    """Median seconds of a process that must succeed."""

    def call() -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"}
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise RuntimeError(f"exit status {done.returncode}: {' '.join(last)}")

    return seconds(call)


@benchmark("startup.help", measures="process: ridgepoint --help", unit="s", target=0.4)
def help_s() -> float:
    return process_s([RIDGEPOINT, "--help"])


@benchmark("startup.analyze", measures="process: ridgepoint analyze, one decode step", unit="s", target=0.8)
def analyze_s() -> float:
    return process_s([RIDGEPOINT, *ANALYZE])


@benchmark("startup.import", measures="import ridgepoint, beyond a bare interpreter", unit="s", target=0.3)
def import_s() -> float:
    with_package = process_s([sys.executable, "-c", "import ridgepoint"])
    return max(0.0, with_package - process_s([sys.executable, "-c", "pass"]))
