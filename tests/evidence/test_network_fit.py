"""Coefficients fitted to whole networks (design §4): what networks were made with comes back."""

import json
from pathlib import Path

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.network_fit import changed, fit_networks, free_of, network_errors, timed_networks
from ridgepoint.evidence.schema import SCHEMAS
from ridgepoint.evidence.tables import Table, read_table

NAMES = (
    "resnet18",
    "resnet50",
    "mobilenetv2_100",
    "vit_tiny_patch16_224",
    "convnext_tiny",
    "efficientnet_b0",
    "densenet121",
)


def rows(folder: Path, times_s: dict[str, float] | None = None) -> Table:
    """A runs table of a few networks on a processor, 16 images each."""
    columns = list(SCHEMAS["runs"].columns)
    about = {
        **{"source": "mine", "machine": "i9-10940x", "devices": "1", "framework": "pytorch", "task": "forward"},
        **{"precision": "fp32", "batch": "16", "image_px": "224", "mode": "compiled", "unit": "1/s"},
        **{"metric": "throughput_samples_s", "extra": json.dumps({"layout": "nchw"})},
    }
    lines = [",".join(columns)]
    for name in NAMES:
        value = float(16.0 / (times_s or {}).get(name, 1.0))
        row = about | {"model": name, "value": repr(value)}
        lines.append(",".join('"' + row.get(c, "").replace('"', '""') + '"' for c in columns))
    path = folder / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_table(path, "runs")


def test_what_networks_ran_with_comes_back(tmp_path: Path) -> None:
    truth = {"conv.efficiency.default": 0.35, "conv.depthwise_efficiency": 0.03, "gemm.efficiency.default": 0.5}
    networks = timed_networks(rows(tmp_path), "x86")
    seconds = np.exp(network_errors(networks, truth))  # of tables that say one second
    named = {one.passes.rows.text("model"): s for one, s in zip(networks, seconds, strict=True)}
    found = fit_networks(timed_networks(rows(tmp_path, named), "x86"), steps=8)
    assert found.median_error < 0.03
    assert found.values["conv.efficiency.default"] == pytest.approx(0.35, rel=0.15)


def test_tables_that_kernels_taught_are_left_alone(tmp_path: Path) -> None:
    networks = timed_networks(rows(tmp_path), "x86")
    assert "gemm.efficiency.default" in free_of(networks), "no kernel of a processor was timed"
    assert all(path.partition(".")[0] in ("conv", "device", "stream", "gemm") for path in free_of(networks))
    faster = changed(networks[0].machine, {"conv.depthwise_efficiency": 1.0})
    assert faster.coefficients.conv.depthwise_efficiency == 1.0
    assert faster.coefficients.gemm == networks[0].machine.coefficients.gemm


def test_a_family_without_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RidgepointError, match="no networks ran on hopper"):
        timed_networks(rows(tmp_path), "hopper")
