"""Convolutions as tables write them (design §8): strides and paddings as numbers, as pairs, or for every side."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ridgepoint.evidence.matrix_rows import BUILDERS
from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import read_table
from ridgepoint.ops import Conv
from ridgepoint.work import walk
from tests.evidence.tables import GEMM_HEADER, gemm_row, text, write

SHAPE = {"c_in": 64, "c_out": 128, "h": 28, "w": 28, "kh": 3, "kw": 3}


def convolutions(folder, *extras):
    header = (*GEMM_HEADER, "batch")
    rows = [[*gemm_row(op="conv2d", dtype="fp32", extra=json.dumps(SHAPE | extra)), "8"] for extra in extras]
    return express(read_table(write(folder, text(rows, header)), "kernels"), BUILDERS)


def fields(expressed, *names):
    """Of every row in order, the named fields of its convolution."""
    found = np.full((len(expressed.table), len(names)), np.nan)
    for batch in expressed.batches:
        (op,) = (part for part in walk(batch.work) if isinstance(part, Conv))
        for column, name in enumerate(names):
            found[batch.rows.index, column] = getattr(op, name)
    return found


def test_one_size_is_written_in_several_ways(tmp_path):
    written = ({"stride": 2, "pad": 1}, {"stride": [2, 2], "pad": [1, 1]}, {"stride": [2], "pad": [1, 1, 1, 1]})
    assert fields(convolutions(tmp_path, *written), "stride", "pad_h", "pad_w").tolist() == [[2.0, 1.0, 1.0]] * 3


def test_paddings_may_differ(tmp_path):
    written = ({"pad": [1, 3]}, {"pad": 1, "pad_w": 3}, {"pad": [0, 2, 2, 4]})
    assert fields(convolutions(tmp_path, *written), "pad_h", "pad_w").tolist() == [[1.0, 3.0]] * 3


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"stride": [2, 1]}, "stride differs between height and width"),
        ({"stride": 2, "stride_w": 1}, "stride differs between height and width"),
        ({"dilation": 2}, "dilated convolutions are not described"),
        ({"stride": "two"}, "extra.stride is neither a number nor a list of them"),
        ({"pad": []}, "extra.pad is neither a number nor a list of them"),
        ({"pad": [1, 1, 1]}, "extra.pad has 3 numbers, not one, two or four"),
        ({"c_in": None}, "extra.c_in is not stated"),
    ],
)
def test_what_no_work_describes_is_refused_alone(tmp_path, extra, reason):
    """The rows beside it keep their predictions."""
    found = convolutions(tmp_path, {}, extra, {"stride": 2})
    assert found.refused == {1: reason}
    assert sum(len(batch.rows) for batch in found.batches) == 2
