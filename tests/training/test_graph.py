"""Graphs of several models: closed forms of schedules, moves and memory; the layouts are the best of all (design §10)."""

from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Forward, Train
from ridgepoint.training.graph import Call, Graph, Member, feedback, plan_graph
from ridgepoint.training.graph.candidates import Candidate
from ridgepoint.training.graph.combined import Combined, Moves
from ridgepoint.training.graph.devices import parts_of
from ridgepoint.training.graph.document import read_graph
from ridgepoint.training.graph.moves import fetched, move, seconds
from ridgepoint.training.graph.planner import _lists
from ridgepoint.training.search import frontier, search
from ridgepoint.training.space import sweeps

SMALL, MACHINE = find_model("llama-3.2-1b"), find_machine("8xa100-sxm-40gb")
SIZES: dict[str, Any] = {"batch": 64, "prompt": 512, "output": 512}


@pytest.fixture(scope="module")
def loop():
    return plan_graph(feedback(SMALL, critic=SMALL, reference=SMALL, reward=SMALL, steps=2, **SIZES), on=MACHINE)


def test_calls_on_shared_devices_run_one_after_the_other(loop):
    """The iteration is the sum of calls and moves."""
    assert loop.time_s == pytest.approx(sum(c.candidate.time_s + c.move_s for c in loop.calls))
    assert [c.call.name for c in loop.critical] == [c.call.name for c in loop.calls]
    assert sum(loop.shares.values()) == pytest.approx(1.0)


def test_a_call_is_the_estimate_of_its_task(loop):
    actor = next(c for c in loop.calls if c.call.name == "actor trains")
    given = actor.candidate.estimate.scenario
    assert given.task == Train(batch=32, seq=1024)
    alone = Estimate(Scenario(SMALL, MACHINE, given.task, given.plan)).time_s
    assert actor.candidate.time_s == pytest.approx(2 * alone)  # two optimizer steps


def test_memory_of_a_phase_is_what_all_keep_and_what_the_call_needs(loop):
    """Every device holds the states of actor and critic and the weights of the others in every phase."""
    train = {c.call.member: c.candidate for c in loop.calls if c.call.kind == "train"}
    generate = loop.calls[0]
    assert generate.memory["critic keeps"] == pytest.approx(train["critic"].stay_bytes)
    own = sum(size for name, size in generate.memory.items() if not name.endswith(" keeps"))
    shared = generate.candidate.peak_bytes - own
    assert shared == pytest.approx(0.0) or shared == pytest.approx(generate.candidate.weight_bytes)
    assert all(c.memory_bytes <= loop.usable_bytes for c in loop.calls)


def test_independent_calls_on_groups_of_their_own_overlap():
    """Two trainings that wait for nothing: the iteration is the longer one, on halves of the node."""
    members = {name: Member(name, SMALL) for name in ("one", "two")}
    calls = (
        Call("first", "one", "train", 64, 512, 512, group="left"),
        Call("second", "two", "train", 16, 512, 512, group="right"),
    )
    found = plan_graph(Graph(members, calls, {"left": 4, "right": 4}), on=MACHINE)
    times = [c.candidate.time_s for c in found.calls]
    assert found.time_s == pytest.approx(max(times))
    assert found.time_s < sum(times)
    assert [c.machine.devices for c in found.calls] == [4, 4]
    assert [c.call.name for c in found.critical] == ["first"]


def test_the_choice_is_the_best_of_all_combinations():
    """Against every combination of every candidate: what is found by improving pairs of calls is the optimum here."""
    graph = feedback(SMALL, reference=SMALL, **SIZES)
    tight = 9e9
    found = plan_graph(graph, on=MACHINE, max_memory=tight)
    parts = parts_of(graph, MACHINE)
    lists = _lists(graph, parts, tight, None)
    every = Combined(graph, lists, Moves(graph, parts), tight)
    assert every.total.size == prod(len(ways) for ways in lists)
    assert found.time_s == pytest.approx(float(np.min(every.total)))
    loose = plan_graph(graph, on=MACHINE)
    assert loose.time_s <= found.time_s * (1 + 1e-9)


def bandwidth(scope):
    found = MACHINE.link(scope)
    assert found is not None
    return float(found[1].bandwidth)


def way(task, machine=MACHINE, **plan):
    return Candidate(Estimate(Scenario(SMALL, machine, task, Plan(**plan))), 1)


def test_gathering_shards_takes_what_the_ring_takes():
    """ZeRO-3 over 8 devices to whole copies: each device receives 7/8 of the weights over its link."""
    trained = way(Train(batch=8, seq=512), zero_stage=3)
    called = way(Forward(batch=8, seq=512), tp=1, dp=8)
    received = 7 / 8 * called.weight_bytes
    link = bandwidth("node")
    took = seconds(move(trained, called, MACHINE), MACHINE)
    assert received / link <= took <= 1.5 * received / link + 1e-3


@pytest.mark.parametrize(
    ("before", "after", "pieces"),
    [
        ({"tp": 1, "zero_stage": 0}, {"tp": 1, "dp": 8}, 1),
        ({"tp": 1, "zero_stage": 1}, {"tp": 4, "dp": 2}, 1),  # every device has the whole: its slice is in it
        ({"tp": 2, "zero_stage": 2}, {"tp": 2, "dp": 4}, 1),
        ({"tp": 8, "zero_stage": 0}, {"tp": 2, "dp": 4}, 4),
        ({"tp": 2, "pp": 4, "zero_stage": 0}, {"tp": 2, "dp": 4}, 4),
        ({"tp": 2, "pp": 2, "zero_stage": 3}, {"tp": 1, "dp": 8}, 8),
    ],
)
def test_what_moves_is_what_is_lacking(before, after, pieces):
    """p pieces to q: nothing where layouts are nested, else (p/q − 1)/(p/q) of what a device is to hold."""
    trained = way(Train(batch=16, seq=512), micro_batch=1, **before)
    called = way(Forward(batch=16, seq=512), **after)
    work = move(trained, called, MACHINE)
    gathers = [part for part in work.children() if isinstance(part, Collective)]
    assert prod(float(g.ranks) for g in gathers) == pieces
    received = sum(g.bytes * (1 - 1 / g.ranks) for g in gathers)
    assert received == pytest.approx(called.weight_bytes * (1 - 1 / pieces))


def test_resting_at_the_host_frees_memory_and_costs_the_link():
    graph = feedback(SMALL, reference=SMALL, host=("reference",), **SIZES)
    found = plan_graph(graph, on=MACHINE)
    scores = found.calls[1]
    assert scores.move_s == pytest.approx(seconds(fetched(scores.candidate.weight_bytes), MACHINE))
    assert scores.move_s >= scores.candidate.weight_bytes / bandwidth("host")
    assert "reference keeps" not in found.calls[0].memory
    assert "reference keeps" in plan_graph(feedback(SMALL, reference=SMALL, **SIZES), on=MACHINE).calls[0].memory


def test_parameters_cross_to_the_devices_that_generate():
    members = {"actor": Member("actor", SMALL)}
    calls = (
        Call("writes", "actor", "generate", 64, 512, 64, group="writers"),
        Call("trains", "actor", "train", 64, 512, 64, group="trainers", after=("writes",)),
    )
    found = plan_graph(Graph(members, calls, {"writers": 4, "trainers": 4}), on=MACHINE)
    assert found.calls[0].move_s > 0.0
    assert "actor keeps" not in found.calls[0].memory  # its states lie with the trainers


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"member": "actr"}, "did you mean actor"),
        ({"kind": "write"}, "generate"),
        ({"after": ("nothing",)}, "unknown call"),
        ({"group": "left"}, "unknown group"),
        ({"steps": 3}, "do not divide"),
        ({"batch": 0}, "whole number"),
    ],
)
def test_bad_graphs_are_refused(change, says):
    one = {"name": "a", "member": "actor", "kind": "train", "batch": 64, "prompt": 8, "output": 8, **change}
    with pytest.raises(RidgepointError) as error:
        Graph({"actor": Member("actor", SMALL)}, (Call(**one),))
    assert error.value.kind == "bad_graph"
    assert says in str(error.value)


def test_calls_that_wait_for_each_other_are_refused():
    calls = [Call(n, "actor", "score", 8, 8, 8, after=(a,)) for n, a in (("x", "y"), ("y", "x"))]
    with pytest.raises(RidgepointError, match="wait for each other"):
        Graph({"actor": Member("actor", SMALL)}, tuple(calls))


@pytest.mark.parametrize(("groups", "says"), [({"g": 16}, "has 8"), ({"g": 3}, "1, 2, 4, 8")])
def test_groups_that_the_machine_does_not_have_are_refused(groups, says):
    graph = Graph({"a": Member("a", SMALL)}, (Call("c", "a", "score", 8, 8, 8, group="g"),), groups)
    with pytest.raises(RidgepointError) as error:
        plan_graph(graph, on=MACHINE)
    assert says in str(error.value)


def test_nothing_fits_says_who_keeps_what_and_what_helps():
    graph = feedback(SMALL, critic=SMALL, reference=SMALL, reward=SMALL, **SIZES)
    with pytest.raises(RidgepointError) as error:
        plan_graph(graph, on=MACHINE, max_memory=6.5e9)
    assert error.value.kind == "does_not_fit"
    assert "keeps" in error.value.message
    assert "host" in error.value.hint


def test_hosts_that_are_too_small_are_refused():
    large = find_model("kimi-k2.5")
    graph = Graph({"a": Member("a", large, "host")}, (Call("c", "a", "train", 8, 8, 8),))
    with pytest.raises(RidgepointError, match="of the hosts'"):
        plan_graph(graph, on="8xa100-sxm-80gb")


FILE = """
machine = "8xa100-sxm-40gb"
batch = 64
prompt = "0.5k"
output = 512
[models.actor]
model = "llama-3.2-1b"
[[call]]
name = "generate"
model = "actor"
kind = "generate"
[[call]]
name = "actor trains"
model = "actor"
kind = "train"
after = ["generate"]
"""


def test_a_file_says_the_same_as_python(tmp_path):
    path = tmp_path / "loop.toml"
    path.write_text(FILE)
    graph, machine = read_graph(path)
    assert machine == "8xa100-sxm-40gb"
    assert graph == feedback(SMALL, **SIZES)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("batch = 64", "batches = 64", "did you mean batch"),
        ('kind = "train"', 'knd = "train"', "did you mean kind"),
        ("output = 512", "output = -1", "output"),
        ('model = "llama-3.2-1b"', 'modell = "x"', "did you mean model"),
        ('after = ["generate"]', 'after = "generate"', "after"),
        ('after = ["generate"]', "plan = { wings = 2 }", "no field"),
        ("[models.actor]", "[models.actor", "TOML"),
    ],
)
def test_bad_files_are_refused_with_the_key(tmp_path, old, new, says):
    path = tmp_path / "loop.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(RidgepointError) as error:
        read_graph(path)
    assert says in str(error.value)


def test_the_frontier_has_the_fastest_the_leanest_and_nothing_beaten():
    """By ZeRO stage: no layout on it is slower and larger than another one."""
    task = Train(batch=16, seq=1024)
    space = sweeps(SMALL, MACHINE, 16, 1024)
    front = frontier(SMALL, MACHINE, task, Plan(), space, 38e9)
    best = search(SMALL, MACHINE, task, Plan(), space, 38e9, keep=1)
    assert front[0].time_s == pytest.approx(best.best[0].time_s)
    assert min(r.memory_bytes for r in front) == pytest.approx(best.leanest.memory_bytes)
    for one, other in product(front, front):
        if one.plan["zero_stage"] == other.plan["zero_stage"] and one is not other:
            assert one.time_s < other.time_s or one.memory_bytes < other.memory_bytes


def test_weights_of_the_catalogue_and_of_the_ledger_agree():
    called = way(Forward(batch=8, seq=512), tp=1, dp=8)
    assert called.weight_bytes == pytest.approx(2.0 * total_parameters(SMALL), rel=1e-3)
