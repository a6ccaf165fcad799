"""Capturing a user's own module: counts by hand, shortened stacks at full depth, sizes that were not captured, errors."""

from pathlib import Path

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.captured.memory import memory

torch = pytest.importorskip("torch")

from ridgepoint.capture.inputs import read_inputs  # noqa: E402
from ridgepoint.capture.pytorch import Subject, capture_pass, record, spec_arguments  # noqa: E402
from ridgepoint.capture.session import capture  # noqa: E402
from tests.capture import models  # noqa: E402
from tests.capture.test_agreement import amounts, matrix  # noqa: E402
from tests.models.networks.captured.graphs import ops_of  # noqa: E402

FP32 = Formats("fp32", "fp32", "fp32")
FILE = Path(models.__file__)


def subject(make, *inputs, task="forward", shorten=True):
    with torch.device("meta"):
        module = make()
    given = read_inputs(inputs)
    return Subject(module, spec_arguments(given.inputs), given.sizes, task, shorten=shorten)


def played(graph, fused=False, **sizes):
    at = Evaluation(graph, {name: float(size) for name, size in sizes.items()}, FP32, fused)
    forward, back = at.passes()
    return at, forward, back


@pytest.mark.parametrize("task", ["forward", "train"])
@pytest.mark.parametrize(
    ("make", "spec", "sizes"),
    [
        (models.Language, "ids: int64[B,S=64]", {"batch": 5, "seq": 200}),
        (models.Pattern, "x: float32[B,32]", {"batch": 5}),
    ],
)
def test_a_shortened_stack_is_the_whole_one(make, spec, sizes, task):
    found = capture_pass(subject(make, spec, task=task))
    assert found.graph.spans
    whole = record(subject(make, spec, task=task, shorten=False), sizes)
    at, forward, back = played(found.graph, **sizes)
    full_at, full_forward, full_back = played(whole)
    for mine, theirs in ((forward, full_forward), (back, full_back)):
        if theirs is not None:
            assert amounts(mine)[0] == pytest.approx(amounts(theirs)[0], rel=1e-12)
            assert amounts(mine)[1] == pytest.approx(amounts(theirs)[1], rel=1e-12)
    assert memory(at).peak == pytest.approx(memory(full_at).peak, rel=0.02)


def test_merged_layers_move_what_the_merged_whole_moves():
    spec, sizes = "ids: int64[B,S=64]", {"batch": 5, "seq": 200}
    _, forward, _ = played(capture_pass(subject(models.Language, spec)).graph, fused=True, **sizes)
    _, whole, _ = played(record(subject(models.Language, spec, shorten=False), sizes), fused=True)
    assert amounts(forward)[1] == pytest.approx(amounts(whole)[1], rel=1e-12)


def test_attention_is_one_kernel_and_parts_carry_the_names_of_modules():
    graph = capture_pass(subject(models.Language, "ids: int64[B,S=64]")).graph
    _, forward, _ = played(graph, fused=True, batch=2, seq=64)
    labels = {op.label: op for op in ops_of(forward)}
    attention = labels["layers.*.attention"]
    assert (attention.kind, attention.heads, attention.q_len, attention.causal) == ("attention", 4.0, 64.0, True)
    assert labels["layers.*.down"].kind == "gemm"
    assert any("models.py:" in kernel.line for kernel in graph.kernels)


def test_convolutions_by_hand():
    graph = capture_pass(subject(models.Pixels, "x: float32[B,3,64,64]")).graph
    _, forward, _ = played(graph, batch=2)
    macs = 2 * 16 * 32 * 32 * 3 * 49 + 2 * 32 * 32 * 32 * (16 // 4) * 9 + 2 * 32 * 32 * 32 * 8 * 4
    assert matrix(amounts(forward)[0]) == 2 * macs


def test_a_recurrent_network_is_products_and_passes_along_the_sequence():
    graph = capture_pass(subject(models.Recurrent, "x: float32[B,S=128,16]")).graph
    _, forward, _ = played(graph, batch=3, seq=100)
    flop, _ = amounts(forward)
    tokens = 3 * 100
    assert flop["gemm"] == 2 * tokens * (2 * 16 * 128 + 2 * 64 * 128 + 64 * 5)
    assert flop["scan"] == tokens * 4 * (2 * 32 * 32 * 4 + 8 * 32 * 4)


def test_messages_on_a_graph_scale_with_edges():
    specs = ("x: float32[N=100,16]", "source: int64[E=400]", "target: int64[E]")
    graph = capture_pass(subject(models.Messages, *specs)).graph
    few, many = (played(graph, N=1000, E=edges)[1] for edges in (5000, 10000))
    assert amounts(few)[0]["gemm"] == amounts(many)[0]["gemm"] == 2 * 1000 * 16 * 8
    assert amounts(many)[1] > 1.5 * amounts(few)[1]


def test_training_costs_three_times_the_products_of_a_pass():
    graph = capture_pass(subject(models.Language, "ids: int64[B,S=64]", task="train")).graph
    _, forward, back = played(graph, batch=2, seq=64)
    mine, theirs = amounts(back)[0]["gemm"], amounts(forward)[0]["gemm"]
    assert mine == 2 * theirs
    gradients = {op.label for op in ops_of(back) if op.kind == "gemm"}
    assert "layers.*.qkv.grad" in gradients  # labels of the backward pass name the module, too


def test_gradients_are_not_activations():
    graph = capture_pass(subject(models.Language, "ids: int64[B,S=64]", task="train")).graph
    kept = [t for t in graph.tensors if t.role == "gradient"]
    assert len(kept) == 1 + 3 * 10 + 2  # one for each parameter of the recorded modules


def test_a_call_without_a_rule_is_listed_and_never_free():
    graph = capture_pass(subject(models.Odd, "x: float32[B,8]")).graph
    _, forward, _ = played(graph, batch=100)
    (unknown,) = [op for op in ops_of(forward) if op.kind == "unknown"]
    assert "linalg_qr" in unknown.label
    assert unknown.read_bytes == 100 * 8 * 4
    assert unknown.write_bytes >= 100 * 8 * 4


def test_sizes_that_change_the_program_stay_fixed_and_are_said():
    found = capture_pass(subject(models.DependsOnSize, "x: float32[B,8]"))
    assert found.fixed == {"batch": 1.0}
    assert "batch stays 1 (another program" in found.method


@pytest.mark.parametrize(
    ("target", "inputs", "kind", "says", "hint"),
    [
        ("depends_on_values", ["x: float32[B,8]"], "data_dependent", "values of a tensor in models.py:", "shapes"),
        ("picks", ["x: float32[B,8]"], "data_dependent", "values of a tensor in models.py:", "shapes"),
        ("language", [], "missing_input", "Language.forward needs ids", "--input 'ids:"),
        ("language", ["ids: int64[B,8]", "y: int64[B]"], "bad_input", "no parameter 'y'", "its parameters: ids"),
        ("language", ["ids: float99[B,8]"], "bad_input", "type 'float99'", "float32"),
        ("language", ["ids int64"], "bad_input", "--input is 'ids int64'", "write it like"),
        ("language", ["ids: int64[B,T]"], "bad_input", "'T' has no usual value", "T=N"),
        ("langauge", ["ids: int64[B,8]"], "bad_file", "no function 'langauge'", "did you mean language"),
        ("not_a_model", ["x: float32[B]"], "bad_model", "returns int", "torch.nn.Module"),
        ("fails", ["x: float32[B]"], "bad_file", "failed: KeyError", "without arguments"),
        ("pixels", ["x: float32[B,4,64,64]"], "bad_capture", "RuntimeError", "check the inputs"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(target, inputs, kind, says, hint):
    with pytest.raises(RidgepointError) as raised:
        capture(f"{FILE}:{target}", inputs)
    assert raised.value.kind == kind
    assert says in raised.value.message
    assert hint in raised.value.hint


def test_a_factory_that_reads_values_is_built_for_real():
    work = capture(f"{FILE}:needs_values", ["input: float32[B,8]"])
    assert sum(work.parameters.values()) == 8 * 4 + 4


def test_parameters_are_those_of_the_whole_module():
    work = capture(f"{FILE}:language", ["ids: int64[B,S=64]"])
    whole = sum(p.numel() for p in models.Language().parameters())
    assert sum(work.parameters.values()) == whole
    assert work.parameters["layers.*.up"] == 9 * (64 * 256 + 256)
