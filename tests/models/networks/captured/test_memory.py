"""Peak memory by liveness."""

from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.captured.memory import memory
from tests.models.networks.captured.graphs import gemm, graph, stream

FP16 = Formats("fp16", "fp16", "fp16")


def peak(found, fused=False):
    return memory(Evaluation(found, {}, FP16, fused)).peak


def test_a_tensor_lives_from_its_maker_to_its_last_reader():
    # 0 → 1 → 2 → 3 with 100, 300, 10, 50 elements: the most are 0 and 1 together.
    found = graph([100.0, 300.0, 10.0, 50.0], [stream([0], [1], 300.0), stream([1], [2], 10.0), stream([2], [3], 50.0)],
                  roles={0: "input", 3: "output"})  # fmt: skip
    assert peak(found) == 2 * 400.0


def test_what_stays_inside_a_merged_kernel_takes_no_room():
    found = graph([100.0] * 3, [stream([0], [1], 100.0), stream([1], [2], 100.0)], roles={0: "input", 2: "output"})
    assert peak(found, fused=True) == 2 * 200.0
    assert peak(found) == 2 * 200.0  # unfused: at no time more than two of them


def test_parameters_are_not_activations_and_caches_are_told_apart():
    found = graph([10.0, 1000.0, 10.0, 500.0, 10.0], [gemm(0, 1, 2, 1.0, 1.0, 1.0), stream([2, 3], [4], 10.0)],
                  roles={0: "input", 1: "parameter", 3: "cache"})  # fmt: skip
    ledger = memory(Evaluation(found, {}, FP16, False))
    assert ledger.cache == 1000.0
    assert ledger.peak == 2 * 20.0


def test_layers_that_stand_for_several_keep_as_much_for_the_backward_pass():
    # forward: a, b (×5), c; backward reads them in reverse. Each keeps its input of 100 elements.
    kernels = [stream([0], [1], 100.0), stream([1], [2], 100.0), stream([2], [3], 100.0),
               stream([3, 2], [4], 100.0), stream([4, 1], [5], 100.0), stream([5, 0], [6], 100.0)]  # fmt: skip
    found = graph([100.0] * 7, kernels, [(1, 2, 5.0), (4, 5, 5.0)], backward=3, roles={0: "input", 6: "output"})
    # At the turn: input 0 and tensor 1 once, tensor 2 for each of the five equal layers, tensor 3, the first gradient.
    assert peak(found) == 2 * 100.0 * (1 + 1 + 5 + 1 + 1)
