"""Work files: they round-trip, are read strictly, and play as networks."""

import json

import msgspec
import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.file import WorkFile, find_work, read_work, to_text
from tests.models.networks.captured.graphs import gemm, graph, stream


@pytest.fixture
def work():
    found = graph(
        ["batch*seq*64", 4096.0, "batch*seq*64", "batch*seq*64"],
        [gemm(0, 1, 2, "batch*seq", 64.0, 64.0, "layers.*.up"), stream([2], [3], "64*batch*seq", label="layers.*.act")],
        roles={0: "input", 1: "parameter", 3: "output"},
    )
    return WorkFile(
        1,
        "net",
        "net.py:build",
        "forward: by hand",
        "fp16",
        {"seq": 128.0},
        {"layers.*.up": 4096.0},
        {"forward": found},
    )


def network(path):
    found = find_work(str(path))
    assert found is not None
    return found


@pytest.fixture
def path(work, tmp_path):
    file = tmp_path / "net.work.json"
    file.write_text(to_text(work), encoding="utf-8")
    return file


def test_a_work_file_round_trips(work, path):
    assert read_work(path) == work
    assert to_text(read_work(path)) == path.read_text(encoding="utf-8")


def test_it_is_a_model_wherever_models_are(path):
    est = rp.estimate(network(path), on="h100-sxm", task=rp.Forward(batch=8, seq=256))
    flop = sum(component.flop for component in est.cost.components if component.kind == "gemm")
    assert flop == 2 * 8 * 256 * 64 * 64
    assert est.memory["weights"] == 4096 * 2
    swept = rp.estimate(network(path), on="h100-sxm", task=rp.Forward(batch=np.array([1.0, 8.0]), seq=256))
    assert swept.time_s[1] == pytest.approx(est.time_s, rel=1e-12)


def test_formats_of_the_plan_replace_the_captured_one(path):
    net = network(path)
    wide = rp.estimate(net, on="h100-sxm", plan=rp.Plan(acts="fp32"))
    narrow = rp.estimate(net, on="h100-sxm", plan=rp.Plan(weights="int8"))
    assert wide.memory["weights"] == 4096 * 4
    assert narrow.memory["weights"] == 4096


def test_training_is_derived_where_only_a_forward_pass_was_captured(path):
    net = network(path)
    est = rp.estimate(net, on="h100-sxm", task=rp.Train(batch=4, seq=128))
    flop = sum(component.flop for component in est.cost.components if component.kind == "gemm")
    assert flop == 3 * 2 * 4 * 128 * 64 * 64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ridgepoint_work": 2}, "reads format 1"),
        ({"passes": {}}, "holds no pass"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"sizes": {}}, "unknown size 'seq'"),
    ],
)
def test_a_file_that_is_wrong_is_refused(path, change, says):
    content = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(rp.RidgepointError, match=says):
        read_work(path)


def test_a_task_that_was_not_captured_is_refused_with_what_to_do(path):
    with pytest.raises(rp.RidgepointError, match="captured for forward, not for decode") as raised:
        rp.estimate(network(path), on="h100-sxm", task=rp.Decode())
    assert raised.value.hint == "capture it with --task decode"


def bounded(work, path, *conditions):
    passes = {"forward": msgspec.structs.replace(work.passes["forward"], conditions=conditions)}
    path.write_text(to_text(msgspec.structs.replace(work, passes=passes)), encoding="utf-8")
    return path


def test_formulas_are_used_within_their_conditions_only(work, path):
    net = network(bounded(work, path, "seq <= 256", "batch*seq != 7"))
    assert read_work(path).passes["forward"].conditions == ("seq <= 256", "batch*seq != 7")
    assert rp.estimate(net, on="h100-sxm", task=rp.Forward(batch=8, seq=256)).time_s > 0
    with pytest.raises(rp.RidgepointError, match=r"holds where seq <= 256"):
        rp.estimate(net, on="h100-sxm", task=rp.Forward(batch=8, seq=np.array([128.0, 257.0])))


@pytest.mark.parametrize("condition", ["seq", "seq <= tokens", "__import__('os') < 1", "1 < seq < 5"])
def test_what_is_no_condition_is_refused(work, path, condition):
    with pytest.raises(rp.RidgepointError) as raised:
        network(bounded(work, path, condition))
    assert raised.value.kind == "bad_work"


def test_replicas_of_a_file_divide_the_batch(work, path):
    path.write_text(to_text(msgspec.structs.replace(work, ranks=8.0, replicas=4.0)), encoding="utf-8")
    layout = rp.estimate(network(path), on="16xh100-sxm", task=rp.Forward(batch=64)).built.layout
    assert (layout.tp, layout.dp) == (2.0, 8.0)
    with pytest.raises(rp.RidgepointError, match="4 sharded replicas"):
        rp.estimate(network(path), on="16xh100-sxm", task=rp.Forward(batch=64), plan=rp.Plan(dp=2))
