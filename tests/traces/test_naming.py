"""Modules that name themselves in a trace, and leave no trace of it behind."""

import pytest

torch = pytest.importorskip("torch")

from ridgepoint.traces.events import read_trace  # noqa: E402
from ridgepoint.traces.naming import named  # noqa: E402
from ridgepoint.traces.profile import profile  # noqa: E402


@pytest.mark.filterwarnings("ignore")
def test_paths_of_modules_are_in_the_trace(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof, named(net) as same:
        same(torch.ones(2, 8)).sum().backward()
    prof.export_chrome_trace(str(tmp_path / "t.json"))
    found = {row.name for row in profile(read_trace(tmp_path / "t.json")).components}
    assert {"*", "*.*", "* backward", "*.* backward"} <= found


def test_hooks_go_even_when_forward_fails():
    net = torch.nn.Sequential(torch.nn.Linear(8, 8))
    with pytest.raises(RuntimeError), named(net):
        net(torch.ones(2, 3))
    assert not net[0]._forward_hooks
    assert not net[0]._forward_pre_hooks


@pytest.mark.filterwarnings("ignore")
def test_own_times_are_those_of_the_profiler(tmp_path):
    """The oracle: PyTorch's own table of self times, name by name (which counts nested events of one name once)."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
        net(torch.ones(2, 3, 16, 16)).sum().backward()
    prof.export_chrome_trace(str(tmp_path / "t.json"))
    theirs = {row.key: (row.count, row.self_cpu_time_total) for row in prof.key_averages()}
    ours = {row.name: (row.count, row.time_s * 1e6) for row in profile(read_trace(tmp_path / "t.json")).ops}
    assert ours.keys() <= theirs.keys()
    assert len(ours) > 10
    for name, (count, own) in ours.items():
        assert own == pytest.approx(theirs[name][1], abs=0.01 * count)
