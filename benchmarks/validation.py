"""How soon predictions stand beside measurements: kernel rows of a table, and one product."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.registry import benchmark, seconds

ROWS = 60_000


def table_of(folder: Path, rows: int) -> Path:
    """A kernels table of made-up products: as many shapes, formats and machines as a real one."""
    rng = np.random.default_rng(0)
    sizes = np.rint(2.0 ** rng.uniform(0, 15, (rows, 3))).astype(int)
    machines = ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s")
    lines = ["source,machine,framework,op,dtype,m,n,k,time_us"]
    for i, (m, n, k) in enumerate(sizes):
        lines.append(f"made-up,{machines[i % 4]},f{i % 3},gemm,{('bf16', 'fp16')[i % 2]},{m},{n},{k},10")
    path = folder / "kernels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@benchmark("validate.kernels", measures=f"read and predict {ROWS} kernel rows", unit="s", target=60.0)
def kernels_s() -> float:
    from ridgepoint.evidence.validation import document, validate_folder

    with tempfile.TemporaryDirectory() as name:
        table_of(Path(name), ROWS)
        return seconds(lambda: document(validate_folder(Path(name), ("kernels",))), repeats=3)


@benchmark("validate.gemm", measures="expected time of one matrix product", unit="s", target=150e-6)
def gemm_s() -> float:
    from ridgepoint.kernels.demand import settle
    from ridgepoint.kernels.gemm import expected
    from ridgepoint.machines.catalog import find_machine
    from ridgepoint.ops import Gemm

    machine, op = find_machine("h100-sxm"), Gemm(m=32.0, n=4096.0, k=4096.0)

    def hundred() -> None:
        for _ in range(100):
            settle(expected(op, machine))

    return seconds(hundred) / 100.0
