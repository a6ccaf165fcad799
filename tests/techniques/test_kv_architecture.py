"""Smaller caches by construction: bytes per token by formula, what reads less and what does not (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def decode(
    context: float, *apply: str, batch: float = 8, model: str = "llama-2-7b", machine: str = "h200"
) -> rp.Estimate:
    return rp.estimate(model, on=machine, task=rp.Decode(batch=batch, context=context), apply=apply)


@pytest.mark.parametrize("heads", [1, 4, 16])
def test_fewer_heads_are_fewer_bytes(heads: int) -> None:
    """GQA cache per token = 2 · kv_heads · head_dim (transmla)."""
    assert decode(4096, f"fewer-kv-heads:kv_heads={heads}").memory["kv"] == 8 * 4096 * 32 * 2 * heads * 128 * 2


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(RidgepointError, match="3 key–value heads do not divide 32"):
        decode(4096, "fewer-kv-heads:kv_heads=3")
    with pytest.raises(RidgepointError, match="has 8 key–value heads"):
        decode(4096, "fewer-kv-heads:kv_heads=8", model="llama-3.1-8b")


def test_a_latent_of_the_same_size_caches_the_same() -> None:
    """An equally large MLA latent always exists (transmla)."""
    before, after = decode(4096, model="llama-3.1-8b"), decode(4096, "latent-kv", model="llama-3.1-8b")
    assert after.memory["kv"] == pytest.approx(before.memory["kv"])


def test_latents_raise_the_intensity_of_decode() -> None:
    """Operations per byte of attention: about 1 for full heads, 2 · heads for a latent (mla-moe-bottleneck)."""

    def intensity(*apply: str) -> float:
        parts = [c for c in decode(16384, *apply).cost.components if c.kind == "attention"]
        return float(sum(c.flop for c in parts) / sum(c.bytes for c in parts))

    assert intensity() == pytest.approx(1.0, rel=0.01)
    assert intensity("latent-kv:rank=512,rope_dim=64") > 50.0


def test_every_rank_keeps_the_whole_latent() -> None:
    one, eight = (
        decode(4096, "latent-kv:rank=512", machine=m, model="llama-3.1-70b") for m in ("b300-sxm", "8xb300-sxm")
    )
    assert eight.memory["kv"] == one.memory["kv"]


def test_windows_save_in_their_layers_only() -> None:
    """l·n + (L − l)·w (masformer)."""
    found = decode(16384, "sliding-window:layers=0.75,window=1020,sinks=4").memory["kv"]
    assert found / decode(16384).memory["kv"] == pytest.approx(0.25 + 0.75 * 1024 / 16384)


def test_windows_save_pairs_of_long_prompts() -> None:
    task = rp.Prefill(batch=1, prompt=65536)
    before, after = (
        rp.estimate("llama-3.1-8b", on="h200", task=task, apply=a) for a in ([], ["sliding-window:layers=1"])
    )
    assert before.time_s / after.time_s > 1.5


def test_shared_layers_save_memory_and_hardly_time() -> None:
    before, after = decode(16384), decode(16384, "cross-layer-kv-sharing:group=4")
    assert after.memory["kv"] == pytest.approx(before.memory["kv"] / 4)
    assert 0.9 < after.time_s / before.time_s < 1.0
    assert after.memory["weights"] < before.memory["weights"]


@pytest.mark.parametrize("chunk", [1.0, 16.0])
def test_chunks_cache_their_sums(chunk: float) -> None:
    before, after = decode(16384), decode(16384, f"chunked-attention:chunk={chunk}")
    assert after.memory["kv"] == pytest.approx(before.memory["kv"] / chunk)
    assert (after.time_s < before.time_s) == (chunk > 1.0), "chunks of one token only cost their gates"


def test_chunks_cut_the_pairs_of_a_prompt() -> None:
    """O(L²/C) (rat)."""

    def pairs(*apply: str) -> float:
        task = rp.Prefill(batch=1, prompt=32768)
        parts = rp.estimate("llama-2-7b", on="h200", task=task, apply=apply).cost.components
        return float(sum(c.flop for c in parts if c.kind == "attention"))

    assert pairs() / pairs("chunked-attention:chunk=16") == pytest.approx(16.0, rel=0.05)


def test_blocks_keep_and_read_less() -> None:
    """Global layers: n/B keys once per B tokens; local ones: at most B keys (block-transformer)."""
    before, after = decode(4096), decode(4096, "block-transformer:block=4,below=0.5")
    assert after.memory["kv"] / before.memory["kv"] == pytest.approx(0.5 / 4 + 0.5 * 4 / 4096)
    assert after.time_s < 0.75 * before.time_s


def test_blocks_make_prompts_cheap() -> None:
    task = rp.Prefill(batch=1, prompt=8192)
    before, after = (
        rp.estimate("llama-2-7b", on="h200", task=task, apply=a) for a in ([], ["block-transformer:block=4"])
    )
    assert before.time_s / after.time_s > 6.0
