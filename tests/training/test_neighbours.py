"""Orders of ranks and groups that share states: which of them a search looks at (design §10)."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.training.planner import plan_train
from ridgepoint.training.search import step_seconds
from ridgepoint.training.space import sweeps

MODEL, NODES = find_model("llama-3.1-8b"), find_machine("16x8xh100-sxm")


def space(machine=NODES, model=MODEL, **fixed):
    return sweeps(model, machine, 128, 4096, fixed)


def test_groups_that_share_states_fill_nodes_and_divide_the_copies():
    for sweep in space():
        groups, copies = sweep.axes["shard_group"], sweep.axes["dp"] * sweep.axes["cp"]
        assert np.all(copies % groups == 0.0)
        hybrid = groups < copies
        assert np.any(hybrid)
        assert np.all(sweep.axes["zero_stage"][hybrid] > 0.0)
        stride = sweep.axes["tp"] * (sweep.axes["pp"] if sweep.rank_order == "tp-pp-dp" else 1.0)
        filled = groups[hybrid] * stride[hybrid] / 8.0
        assert set(np.unique(filled)) <= {1.0, 8.0}  # nodes, but for replicas that are wider than one


@pytest.mark.parametrize("machine", ["8xh100-sxm", "h100-sxm"])
def test_one_node_has_one_order_and_no_groups(machine):
    for sweep in space(find_machine(machine)):
        assert sweep.rank_order == "tp-cp-dp-pp"
        assert "shard_group" not in sweep.axes


def test_an_order_is_looked_at_only_where_it_moves_something():
    """Where tensor parallelism fills the node, stages and replicas lie in other nodes in either order."""
    ordered = [sweep for sweep in space() if sweep.rank_order == "tp-pp-dp"]
    assert ordered
    for sweep in ordered:
        assert np.all((sweep.axes["tp"] < 8.0) & (sweep.axes["pp"] > 1.0) & (sweep.axes["cp"] == 1.0))
    one, other = (
        float(
            rp.estimate(
                MODEL, on=NODES, task=Train(batch=128, seq=4096), plan=Plan(tp=8, pp=4, rank_order=order)
            ).time_s
        )
        for order in ("tp-cp-dp-pp", "tp-pp-dp")
    )
    assert one == pytest.approx(other)


def test_a_given_order_and_group_are_the_only_ones():
    assert {sweep.rank_order for sweep in space(rank_order="tp-pp-dp")} == {"tp-pp-dp"}
    for sweep in space(shard_group=4):
        assert set(np.unique(sweep.axes["shard_group"])) == {4.0}


def test_a_slow_network_is_spared_by_sharing_states_in_the_node():
    """ZeRO-3 gathers weights twice a micro-batch: over a slow network hybrid sharding wins where it fits."""
    slow = "4x8xh100-sxm@network=5G"
    best = plan_train("llama-3.2-1b", on=slow, batch=128, seq=2048, top=1, zero_stage=3, tp=1, pp=1, cp=1).best
    assert best.plan.shard_group == 8.0
    whole = plan_train(
        "llama-3.2-1b", on=slow, batch=128, seq=2048, top=1, zero_stage=3, tp=1, pp=1, cp=1, shard_group=32
    )
    assert best.step_time_s < whole.best.step_time_s


def test_hybrid_layouts_of_a_sweep_take_the_time_that_they_take_alone():
    sweep = next(one for one in space() if one.schedule == "1f1b" and one.rank_order == "tp-pp-dp")
    some = np.linspace(0, sweep.size - 1, 12).astype(int)
    task = Train(batch=128, seq=4096)
    together = step_seconds(MODEL, NODES, task, Plan(**sweep.plan(some)))
    for place, point in enumerate(some):
        plan = Plan(**sweep.plan(int(point)))
        assert rp.estimate(MODEL, on=NODES, task=task, plan=plan).time_s == pytest.approx(float(together[place]))
