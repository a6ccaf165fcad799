"""Reading real Hugging Face configurations, and anything at all."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import (
    DeltaAttention,
    LatentAttention,
    Mamba2,
    Mixer,
    Model,
    SelfAttention,
)
from ridgepoint.models.catalog import model_entries
from ridgepoint.models.huggingface import model_types, read_config
from ridgepoint.models.parameters import active_parameters, total_parameters
from tests.models.configs import LATENT, LLAMA, MOE, attention, layers, windows

# Real configurations


def real(shared: Path, name: str) -> Model:
    return read_config(json.loads((shared / "model_configs" / f"{name}.json").read_text()), f"{name}.json", name)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("llama-3.1-8b", 8.030e9, 8.030e9),
        ("llama-3.1-70b", 70.554e9, 70.554e9),
        ("llama-3.1-405b", 405.853e9, 405.853e9),
        ("mixtral-8x7b", 46.703e9, 12.879e9),
        ("deepseek-v3", 671.026e9, 37.552e9),
        ("deepseek-r1", 671.026e9, 37.552e9),
        ("gpt-oss-120b", 116.829e9, 5.711e9),
        ("gpt-oss-20b", 20.915e9, 4.187e9),
        ("qwen3-235b-a22b", 235.094e9, 22.191e9),
        ("qwen3-30b-a3b", 30.532e9, 3.353e9),
        ("qwen3-8b", 8.191e9, 8.191e9),
        ("opt-1.3b", 1.3158e9, 1.3158e9),
        ("gpt2-large", 774.03e6, 774.03e6),
        ("nemotron-3-nano", 31.578e9, 3.582e9),
        ("llama-4-maverick", 400.71e9, 17.185e9),
        ("minimax-m2.5", 228.69e9, 11.03e9),
    ],
)
def test_counts_of_real_models(shared, name, total, active):
    model = real(shared, name)
    assert total_parameters(model) == pytest.approx(total, rel=1e-3)
    assert active_parameters(model) == pytest.approx(active, rel=1e-3)


def test_every_shared_config_reads(shared):
    paths = sorted((shared / "model_configs").glob("*.json"))
    assert paths
    for path in paths:
        model = real(shared, path.stem)
        assert not any("is not known" in note for note in model.notes), path.name


def test_gpt_oss_is_mxfp4_in_its_experts_alone(shared):
    model = real(shared, "gpt-oss-120b")
    assert model.precision.weights == "mxfp4"
    assert {part for part, _ in model.precision.exceptions} == {"attention", "router", "embedding", "head"}
    assert Counter(windows(model)) == {128: 18, 0: 18}
    assert attention(model)[0].sinks


def test_latent_attention_of_deepseek(shared):
    mixer = layers(real(shared, "deepseek-v3"))[0].mixer
    assert mixer == LatentAttention(128, 1536, 512, 128, 64, 128)
    glm = layers(real(shared, "glm-5"))[0].mixer
    assert isinstance(glm, LatentAttention)
    assert (glm.index_heads, glm.index_dim, glm.index_topk) == (32, 128, 2048)


def test_kimi_leaves_all_but_the_experts_in_bf16(shared):
    model = real(shared, "kimi-k2.5")
    assert model.precision.weights == "int4"
    assert "experts" not in dict(model.precision.exceptions)
    assert {"attention", "feed"} <= set(dict(model.precision.exceptions))


def test_hybrid_layers_of_real_models(shared):
    def kinds(name: str) -> Counter[type[Mixer] | None]:
        return Counter(type(layer.mixer) if layer.mixer else None for layer in layers(real(shared, name)))

    assert kinds("nemotron-h-56b-base-8k") == {Mamba2: 54, None: 54, SelfAttention: 10}
    assert kinds("qwen3.5-397b-a17b") == {DeltaAttention: 45, SelfAttention: 15}
    assert kinds("kimi-k3") == {DeltaAttention: 69, LatentAttention: 24}


# Anything at all gives a model or a sentence

ENTRIES = [entry.config for entry in model_entries()]
HUGE = st.sampled_from([0, -1, 10**9, 10**30, 10**400, 1.5, math.nan, math.inf, -math.inf, 1e308, 2.0**70])
RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | HUGE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def broken_configs(draw: st.DrawFn) -> Any:
    """A real configuration with some keys dropped, replaced, or swapped with those of another."""
    config = json.loads(json.dumps(draw(st.sampled_from(ENTRIES))))
    for _ in range(draw(st.integers(1, 4))):
        objects = [config, *(v for v in config.values() if isinstance(v, dict) and v)]
        target = draw(st.sampled_from(objects))
        key = draw(st.sampled_from(sorted(target)) if target else st.just("hidden_size"))
        other = json.loads(json.dumps(draw(st.sampled_from(ENTRIES))))
        choice = draw(st.integers(0, 3))
        if choice == 0:
            target.pop(key, None)
        elif choice == 1:
            target[key] = draw(RUBBISH)
        elif choice == 2:
            target[key] = draw(st.integers(-2, 200))
        else:
            target.update({k: v for k, v in other.items() if draw(st.booleans())})
    return config


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(broken_configs())
def test_a_mutated_config_gives_a_model_or_a_sentence(config):
    check(config)


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(sorted({*LLAMA, *MOE, *LATENT, "text_config", "vision_config"})), RUBBISH),
    st.data(),
)
def test_rubbish_gives_a_model_or_a_sentence(config, data):
    check({"model_type": data.draw(st.sampled_from(model_types())), **config})
    check(data.draw(RUBBISH))


def check(config: Any) -> None:
    model, message = None, "config.json: "
    try:
        model = read_config(config, "config.json", "test")
    except RidgepointError as error:
        message = error.message
    assert message.startswith("config.json: ")
    assert len(message) < 1000
    if model is not None:
        assert math.isfinite(total_parameters(model))
        assert 0 < active_parameters(model) <= total_parameters(model)
