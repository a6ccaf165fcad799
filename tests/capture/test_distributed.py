"""Under a process group that pretends: collectives with their sizes, products cut by the ranks, sharded parameters."""

import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.file import to_network

pytest.importorskip("torch")

from ridgepoint.capture.session import capture

CODE = """
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(64, 256, bias=False)
        self.down = nn.Linear(256, 64, bias=False)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Feed() for _ in range(6)])

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x


def build():
    net = Net()
    mesh = init_device_mesh("cpu", (8,))
    for layer in net.layers:
        parallelize_module(layer, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return net


def shard(net, mesh, reshard):
    for layer in net.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard)
    return fully_shard(net, mesh=mesh)


def sharded():
    return shard(Net(), init_device_mesh("cpu", (8,)), True)


def gathered_once():
    return shard(Net(), init_device_mesh("cpu", (8,)), False)


def mixed():
    net, mesh = Net(), init_device_mesh("cpu", (8,))
    narrow = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in net.layers:
        fully_shard(layer, mesh=mesh, mp_policy=narrow)
    return fully_shard(net, mesh=mesh, mp_policy=narrow)


def both():
    net, mesh = Net(), init_device_mesh("cpu", (2, 8), mesh_dim_names=("dp", "tp"))
    for layer in net.layers:
        parallelize_module(layer, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return shard(net, mesh["dp"], True)


def on_devices():
    return shard(Net(), init_device_mesh("cuda", (8,)), True)
"""
LAYERS, LAYER = 6, 2 * 64 * 256
"""Layers, and parameters of each."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("code") / "spread.py"
    file.write_text(CODE, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def work(file):
    return capture(f"{file}:build", ["x: float32[B,S=128,64]"], ["forward", "train"], ranks=8)


def collectives(graph):
    return [(at, kernel) for at, kernel in enumerate(graph.kernels) if kernel.kind == "collective"]


def test_each_layer_sums_over_the_ranks_once_forward_and_once_backward(work):
    graph = work.passes["train"]
    runs = [(graph.times(at), kernel.options["operation"], at < graph.turn) for at, kernel in collectives(graph)]
    assert sum(times for times, _, forward in runs if forward) == 6
    # the input of the first layer needs no gradient
    assert sum(times for times, _, forward in runs if not forward) == 5
    assert {operation for _, operation, _ in runs} == {"all_reduce"}
    _, first = collectives(graph)[0]
    assert (first.sizes["elements"], first.sizes["ranks"]) == ("64*seq*batch", 8.0)


def test_products_and_parameters_are_one_ranks(work):
    (up, *_) = [k for k in work.passes["forward"].kernels if k.label == "layers.*.up"]
    assert (up.sizes["n"], up.sizes["k"]) == (256 / 8, 64.0)
    assert sum(work.parameters.values()) == 6 * 2 * 64 * 256 / 8


def test_the_estimate_knows_the_ranks(work):
    net = to_network(work)
    est = rp.estimate(net, on="16xh100-sxm", task=rp.Forward(batch=8192, seq=128))
    assert (est.built.layout.tp, est.built.layout.dp) == (8.0, 2.0)
    assert any("link" in resource for resource in est.shares)
    with pytest.raises(rp.RidgepointError, match="captured for 8 ranks"):
        rp.estimate(net, on="h100-sxm")


def test_no_process_group_stays_behind(work):
    import torch.distributed

    assert not torch.distributed.is_initialized()


def exchanged(graph):
    """{(operation, forward): (how often, elements, ranks, stride)} of collectives that all have the same size."""
    found: dict[tuple[str, bool], tuple[float, tuple[float, ...]]] = {}
    for at, kernel in collectives(graph):
        key = kernel.options["operation"], at < graph.turn
        sizes = tuple(kernel.sizes.get(name, 1.0) for name in ("elements", "ranks", "stride"))
        count, known = found.get(key, (0.0, sizes))
        assert known == sizes
        found[key] = count + graph.times(at), sizes
    return found


@pytest.mark.parametrize(("factory", "again"), [("sharded", LAYERS), ("gathered_once", 0)])
def test_sharded_parameters_are_gathered_and_their_gradients_reduced(file, factory, again):
    # ZeRO-3: each layer whole before its forward pass, again before its backward pass where it was given back, and every
    # gradient reduced once; nccl-tests count the gathered output and the whole input. ZeRO-2 keeps what it gathered.
    work = capture(f"{file}:{factory}", ["x: float32[B,S=128,64]"], ["forward", "train"], ranks=8)
    whole = (float(LAYER), 8.0, 1.0)
    expected = {("all_gather", True): (LAYERS, whole), ("reduce_scatter", False): (LAYERS, whole)}
    if again:
        expected["all_gather", False] = again, whole
    assert exchanged(work.passes["train"]) == expected
    assert exchanged(work.passes["forward"]) == {("all_gather", True): (LAYERS, whole)}
    assert work.method.count("formulas in seq, batch") == 2  # no recording changes the next
    assert (work.ranks, work.replicas) == (8.0, 8.0)
    assert sum(work.parameters.values()) == LAYERS * LAYER / 8


def test_shards_are_gathered_narrow_and_reduced_wide_where_the_policy_says_so(file):
    train = capture(f"{file}:mixed", ["x: float32[B,S=128,64]"], ["train"], ranks=8).passes["train"]
    formats = {(k.options["operation"], train.tensors[k.reads[0][0]].format) for _, k in collectives(train)}
    assert formats == {("all_gather", "bf16"), ("reduce_scatter", "fp32")}
    assert {k.call for k in train.kernels if k.kind == "unknown"} == set()


def test_shards_and_tensor_parallel_parts_together(file):
    # 2 × 8: an eighth of every layer is gathered from two ranks that are eight apart; activations are summed over eight.
    train = capture(f"{file}:both", ["x: float32[B,S=128,64]"], ["train"], ranks=16).passes["train"]
    part, summed = (LAYER / 8, 2.0, 8.0), ("64*seq*batch", 8.0, 1.0)
    assert exchanged(train) == {
        ("all_gather", True): (LAYERS, part),
        ("all_gather", False): (LAYERS, part),
        ("reduce_scatter", False): (LAYERS, part),
        ("all_reduce", True): (LAYERS, summed),
        ("all_reduce", False): (LAYERS - 1, summed),
    }
    assert sum(t for t in (train.times(at) for at, k in enumerate(train.kernels) if k.kind == "gemm")) == LAYERS * 6 - 1


def test_each_rank_of_sharded_parameters_has_samples_of_its_own(file):
    net = to_network(capture(f"{file}:sharded", ["x: float32[B,S=128,64]"], ["train"], ranks=8))
    est = rp.estimate(net, on="16xh100-sxm", task=rp.Train(batch=16 * 512, seq=128))
    layout = est.built.layout
    assert (layout.tp, layout.dp) == (1.0, 16.0)
    gemm = next(c for c in est.cost.components if c.kind == "gemm" and c.label.endswith("up"))
    assert gemm.flop == LAYERS * 2 * 512 * 128 * 64 * 256
    assert any("sharded over 8 replicas" in said for said in est.assumptions)
    # gradients are reduced within the eight by the pass itself: only the two copies of them exchange theirs
    (outer,) = [c for c in est.cost.components if c.label.startswith("data_parallel")]
    assert outer.kind == "collective"
    assert est.memory["weights"] == LAYERS * LAYER * 4 / 8


def test_gathered_layers_are_given_back(file):
    # ZeRO-3 holds two gathered layers at a time, ZeRO-2 all of them: liveness must tell them apart.
    def peak(factory):
        net = to_network(capture(f"{file}:{factory}", ["x: float32[B,S=128,64]"], ["train"], ranks=8))
        return rp.estimate(net, on="8xh100-sxm", task=rp.Train(batch=8, seq=1)).memory["activations"]

    assert peak("sharded") <= 4 * LAYER * 4
    assert peak("gathered_once") >= LAYERS * LAYER * 4


def test_meshes_of_devices_that_are_not_there_are_refused_with_what_to_do(file):
    with pytest.raises(rp.RidgepointError) as raised:
        capture(f"{file}:on_devices", ["x: float32[B,S=128,64]"], ["train"], ranks=8)
    assert "'cpu'" in raised.value.hint
