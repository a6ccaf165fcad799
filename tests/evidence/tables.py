"""Writing measured tables for tests."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

GEMM_HEADER = ("source", "machine", "framework", "op", "dtype", "weight_dtype", "m", "n", "k", "extra", "time_us")


def gemm_row(m: int = 64, n: int = 4096, k: int = 4096, time_us: float = 20.0, **cells: str) -> list[str]:
    """One row; ``cells`` replaces the text of any column."""
    stated = {"source": "mine", "machine": "h100-sxm", "framework": "x", "op": "gemm", "dtype": "bf16"}
    sizes = {"m": str(m), "n": str(n), "k": str(k), "time_us": str(time_us)}
    return [(stated | sizes | cells).get(name, "") for name in GEMM_HEADER]


def text(rows: Sequence[Sequence[str]], header: Sequence[str] = GEMM_HEADER) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def write(folder: Path, content: str, name: str = "kernels.csv", packed: bool = False) -> Path:
    path = folder / (name + ".gz" if packed else name)
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path
