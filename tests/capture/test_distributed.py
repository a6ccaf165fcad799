"""Tensor parallelism under a process group that pretends: collectives with their sizes, products cut by the ranks."""

import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.file import to_network

pytest.importorskip("torch")

from ridgepoint.capture.session import capture

CODE = """
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
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
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    file = tmp_path_factory.mktemp("code") / "spread.py"
    file.write_text(CODE, encoding="utf-8")
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
