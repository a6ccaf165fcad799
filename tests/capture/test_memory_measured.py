"""Peak memory by liveness beside what PyTorch's own tracker measures while the module runs, allocation by allocation."""

import pytest

from ridgepoint.models.networks.captured.memory import memory

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.distributed._tools.mem_tracker import MemTracker  # noqa: E402

from ridgepoint.capture.pytorch import capture_pass  # noqa: E402
from tests.capture import models  # noqa: E402
from tests.capture.test_modules import played, subject  # noqa: E402


def measured(make, shape, dtype, training):
    """{"ACT", "TEMP", "OTH", …: bytes} at the tracked peak of one pass."""
    with FakeTensorMode(), torch.set_grad_enabled(training):
        module, given = make().train(training), torch.zeros(*shape, dtype=dtype)
        tracker = MemTracker()
        tracker.track_external(module, given)
        with tracker:
            out = module(given)
            if training:
                out.backward(torch.empty_like(out))
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {str(kind).rpartition(".")[2]: size for kind, size in peak.items()}


@pytest.mark.parametrize(
    ("make", "spec", "shape", "dtype", "sizes"),
    [
        (models.Language, "ids: int64[B,S=64]", (5, 200), torch.int64, {"batch": 5, "seq": 200}),
        (models.Pixels, "x: float32[B,3,64,64]", (6, 3, 64, 64), torch.float32, {"batch": 6}),
    ],
)
def test_the_peak_is_the_one_that_pytorch_tracks(make, spec, shape, dtype, sizes):
    at, *_ = played(capture_pass(subject(make, spec)).graph, **sizes)
    assert memory(at).peak == measured(make, shape, dtype, False)["ACT"]
    at, *_ = played(capture_pass(subject(make, spec, task="train")).graph, **sizes)
    found = measured(make, shape, dtype, True)
    # the ledger has gradients of its own, and the tracker counts some of them as temporary
    assert memory(at).peak == pytest.approx(found["ACT"] + found["TEMP"] + found["OTH"], rel=0.03)
