"""Trace files: both layouts, gzip, what releases of the profiler get wrong, and a sentence for the rest (design §10)."""

import gzip
import json
from typing import Any

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.traces.events import read_trace
from ridgepoint.traces.profile import profile
from tests.traces.kineto import Recording


def small() -> Recording:
    made = Recording()
    made.op("aten::mm", 10.0, 5.0)
    made.kernel("gemm", 20.0, 7.5, call=(11.0, 2.0))
    return made


def refusal(path) -> RidgepointError:
    with pytest.raises(RidgepointError) as caught:
        read_trace(path)
    assert caught.value.kind == "bad_trace"
    assert path.name in caught.value.message
    return caught.value


def test_object_array_and_gzip_say_the_same(tmp_path):
    whole = small().document()
    forms = {"a.json": json.dumps(whole).encode(), "b.json": json.dumps(whole["traceEvents"]).encode()}
    forms["c.json.gz"] = gzip.compress(forms["a.json"], mtime=0)
    found = []
    for name, raw in forms.items():
        (tmp_path / name).write_bytes(raw)
        trace = read_trace(tmp_path / name)
        found.append((trace.start.tolist(), trace.end.tolist(), trace.names))
    assert found[0] == found[1] == found[2]
    assert found[0][0] == [10_000, 11_000, 20_000]  # whole nanoseconds


@pytest.mark.parametrize(
    "spoilt",
    [
        '"memory bandwidth (GB/s)": inf',  # a copy that took no time (pytorch/kineto#105)
        '"speed": -Infinity, "other": NaN',
        '"file": "C:\\Users\\me"',  # backslashes of Windows (pytorch/pytorch#98432)
        '"name of a function": "two\nlines"',  # pytorch/pytorch#113001
    ],
)
def test_what_releases_get_wrong_is_read(tmp_path, spoilt):
    text = json.dumps(small().document()).replace('"cbid": 211', f'"cbid": 211, {spoilt}')
    (tmp_path / "t.json").write_text(text)
    assert len(read_trace(tmp_path / "t.json")) == 3


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is no JSON"),
        (b'{"a": 1}', "no profiler trace"),
        (b"[1, 2]", "no profiler trace"),
        (b'{"traceEvents": 3}', "no profiler trace"),
        (b'{"traceEvents": []}', "has no events"),
        (b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "na', "in the middle of an event"),
        (b'[{"ph": "X", "cat": "blink", "name": "x", "ts": 1, "dur": 2}]', "'blink'"),
        (gzip.compress(b"[]" * 999, mtime=0)[:-9], "cut off or damaged"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(tmp_path, raw, words):
    (tmp_path / "t.json").write_bytes(raw)
    error = refusal(tmp_path / "t.json")
    assert words in error.message
    assert error.hint
    assert "\n" not in str(error)


def test_any_cut_is_noticed(tmp_path):
    """A trace that ends early must never be read as a shorter run."""
    raw = json.dumps(small().document()).encode()
    for cut in range(1, len(raw), 7):
        (tmp_path / "t.json").write_bytes(raw[:cut])
        refusal(tmp_path / "t.json")


def test_whatever_stands_in_a_field_it_is_read_or_refused(tmp_path):
    """No value of any type in any field may end in another error, or in a time that is no time."""
    refused: set[str] = set()
    values: list[Any] = [None, 3, -5, 1e30, -1e18, 2**70, "x", "7", [], {}, [1], True]
    places = [
        (i, key)
        for i, event in enumerate(small().document()["traceEvents"])
        for key in (*event, *event.get("args", ()))
    ]
    for i, key in places:
        for value in values:
            spoilt = small().document()
            event = spoilt["traceEvents"][i]
            (event if key in event else event["args"])[key] = value
            (tmp_path / "t.json").write_text(json.dumps(spoilt))
            try:
                found = profile(read_trace(tmp_path / "t.json"))
            except RidgepointError as error:
                refused.add(error.kind)
            else:
                assert 0.0 <= found.busy_s <= found.span_s < 1e12
    assert refused == {"bad_trace"}


def test_lost_times_are_counted_or_refused(tmp_path):
    """Some releases write 0 for time and duration (pytorch/pytorch#188481): few are told, many make the sums wrong."""
    made = small()
    for i in range(300):
        made.op("aten::add", 100.0 + 10 * i, 5.0)
    made.op("aten::mul", 0.0, 0.0)
    trace = read_trace(made.write(tmp_path / "few.json"))
    assert trace.warnings == ("1 events without a time are left out",)
    for _ in range(10):
        made.op("aten::mul", 0.0, 0.0)
    assert "have no time" in refusal(made.write(tmp_path / "many.json")).message


def test_a_missing_file_is_a_bad_file(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        read_trace(tmp_path / "none.json")
