"""Diffusion networks of diffusers beside the parametric families (design §5)."""

import pytest

import ridgepoint as rp
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.catalog import find_network
from ridgepoint.tasks.networks import forward_tape

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed: the U-Net and the transformer are its code")

from benchmarks.capture import diffusion_subject  # noqa: E402
from ridgepoint.capture.pytorch import capture_pass  # noqa: E402
from tests.capture.test_agreement import amounts, matrix  # noqa: E402


@pytest.mark.parametrize(
    ("name", "network", "tolerance", "conditions"),
    [
        # its samplers lay images out anew from 64 on
        ("sdxl", "sdxl-base", 1e-9, ("batch < 64",)),
        # diffusers embeds the time step in every block anew; the family does it once
        ("dit", "dit-xl-2", 5e-4, ()),
    ],
)
def test_matrix_flops_are_those_of_the_family(name, network, tolerance, conditions):
    found = capture_pass(diffusion_subject(name))
    at = Evaluation(found.graph, {"batch": 2.0}, Formats("fp32", "fp32", "fp32"), fused=True)
    mine, my_bytes = amounts(at.passes()[0])
    net = find_network(network)
    assert net is not None
    theirs, their_bytes = amounts(forward_tape(net, rp.Plan(acts="fp32"), 2.0, {}).work)
    assert matrix(mine) == pytest.approx(matrix(theirs), rel=tolerance)
    assert my_bytes == pytest.approx(their_bytes, rel=0.10)
    assert "unknown" not in mine
    assert found.graph.conditions == conditions
