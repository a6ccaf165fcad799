"""Production traces from end to end (Splitwise's of Azure, Mooncake's), and their malformed neighbours."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.trace_file import read_trace
from tests.serving.test_conditions import conserved

TRACES = {"azure_2023_code": 8819, "azure_2023_conv": 19366, "mooncake_conversation": 12031}


@pytest.mark.parametrize(("name", "count"), TRACES.items(), ids=list(TRACES))
def test_an_hour_of_production_traffic_is_served(shared, name, count):
    requests = rp.read_trace(shared / "traces" / f"{name}.csv")
    assert len(requests) == count
    found = rp.simulate("llama-3.1-8b", on="8xh100-sxm", requests=requests)
    conserved(found)
    assert found.failed == 0
    assert not found.queue.overloaded
    assert found.span_s == pytest.approx(3600.0, rel=0.06)
    hits = float(found.columns["cached_tokens"].sum() / requests.prompt.sum())
    assert (hits > 0.03) == (requests.offsets is not None)


def test_host_memory_raises_the_hits_of_mooncakes_trace(shared):
    """What Mooncake keeps in host memory of all nodes does not fit the devices' own."""
    requests = rp.read_trace(shared / "traces" / "mooncake_conversation.csv")

    def hits(tiers: rp.CacheTiers | None) -> float:
        found = rp.simulate(
            "llama-3.1-8b", on="4xh100-sxm", requests=requests, routing="prefix_aware", tiers=tiers,
            plan=rp.Plan(tp=1),
        )  # fmt: skip
        conserved(found)
        return float(found.columns["cached_tokens"].sum() / requests.prompt.sum())

    without, host = hits(None), hits(rp.CacheTiers(host_bytes=400e9))
    assert host > without + 0.05
    ids = requests.ids
    assert requests.offsets is not None
    seen = np.zeros(int(ids.max()) + 1, dtype=bool)
    again = 0
    for i in range(len(requests)):
        own = ids[requests.offsets[i] : requests.offsets[i + 1]]
        again += int(np.minimum.accumulate(seen[own]).sum()) if len(own) else 0
        seen[own] = True
    assert host <= again * 512 / requests.prompt.sum()  # nobody finds more than ever came before


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("arrival_s,input_tokens,output_tokens\n0,1\n", "line 2, column 3 (output_tokens)"),
        ("arrival_s,input_tokens,output_tokens\n0,1,2\n1,x,2\n", "line 3, column 2 (input_tokens)"),
        ("arrival_s,input_tokens,output_tokens,adapter\n0,1,2,-3\n", "line 2, column 4 (adapter)"),
        ("arrival_s,input_tokens,output_tokens,prefix_hash_ids\n0,1,2,1 a\n", "line 2, column 4 (prefix_hash_ids)"),
        ("arrival_s,input_tokens\n0,1\n", "line 1"),
        ("arrival_s,input_tokens,output_tokens\nnan,1,2\n", "line 2, column 1 (arrival_s)"),
    ],
    ids=["short", "word", "adapter", "ids", "header", "nan"],
)
def test_a_malformed_trace_says_line_and_column(tmp_path, text, place):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(rp.RidgepointError) as refused:
        rp.simulate("llama-3.1-8b", on="h100-sxm", requests=path)
    assert refused.value.kind == "bad_trace"
    assert place in refused.value.message


def test_a_trace_names_adapters(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,adapter\n0,10,2,4\n1,10,2,-1\n2,10,2,7\n")
    found = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=path, adapters=rp.Adapters(2, slots=1))
    assert found.columns["adapter"].tolist() == [4, -1, 7]
    slots = found.replicas[0].slots
    assert slots is not None
    assert slots.loaded == 2


PUBLIC = {
    "azure 2023": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
    "azure 2024": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,374,44\n2024-05-10 00:00:04.324509+00:00,396,109\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,374,44,418,Conversation log\n6,GPT-4,90,0,90,API log\n9.314579,GPT-4,396,109,505,API log\n",
    "mooncake": '{"timestamp": 100, "input_length": 374, "output_length": 44, "hash_ids": [0, 1]}\n'
    '{"timestamp": 4414.579, "input_length": 396, "output_length": 109, "hash_ids": [0, 2]}\n',
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n",
}


@pytest.mark.parametrize("form", PUBLIC)
def test_public_traces_are_read_as_they_come(tmp_path, form):
    """Whoever has a trace of Azure, Mooncake or BurstGPT would otherwise rewrite it, and perhaps take its ms for seconds."""
    path = tmp_path / "trace.txt"
    path.write_text(PUBLIC[form])
    found = read_trace(path)
    assert found.prompt.tolist() == [374, 396]
    assert found.output.tolist() == [44, 109]
    assert found.arrival_s[1] - found.arrival_s[0] == pytest.approx(4.314579)
    assert found.arrival_s[0] < 10.0
    assert ("1 requests without tokens" in found.source) == (form == "burstgpt")
    if form == "mooncake":
        assert found.ids.tolist() == [0, 1, 0, 2]


def test_a_line_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 1, "input_length": 3, "output_length": 4}\n{"timestamp": 1, \n')
    with pytest.raises(rp.RidgepointError, match="line 2"):
        read_trace(path)
