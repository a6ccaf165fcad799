"""`ridgepoint models`: list, show, import (design §5, §10)."""

import json
from pathlib import Path

import pytest

from ridgepoint.models.catalog import model_names
from tests.cli.conftest import Run

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


# design §10
def test_the_list_names_every_model(run: Run) -> None:
    found = {m["name"]: m for m in run("models", "list", "--json").document}
    assert set(model_names()) <= set(found)
    assert "resnet50" in found
    llama = found["llama-3.1-8b"]
    assert (llama["layers"], llama["heads"], llama["kv_heads"], llama["max_context"]) == (32, 32, 8, 131072)
    assert llama["parameters"] == 8030261248
    assert "llama-3.1-8b" in run("models", "list").out


# design §10
def test_the_list_is_filtered(run: Run) -> None:
    names = [m["name"] for m in run("models", "list", "--filter", "mixtral", "--json").document]
    assert "mixtral-8x7b" in names
    assert "gpt2" not in names
    assert "zx81" in run("models", "list", "--filter", "zx81").out


# design §5
@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "deepseek-v3", "mixtral-8x7b", "qwen3.5-27b", "bert-large", "t5-11b", "resnet50"]
)
def test_the_parts_hold_all_parameters(run: Run, name: str) -> None:
    doc = run("models", "show", name, "--json").document
    assert sum(part["parameters"] for part in doc["parts"]) == pytest.approx(doc["parameters"])
    assert run("models", "show", name).code == 0


# design §5
def test_a_dense_decoder_does_two_operations_per_parameter_and_token(run: Run) -> None:
    doc = run("models", "show", "llama-3.1-8b", "--context", "1", "--json").document
    parts = {part["name"]: part for part in doc["parts"]}
    for name in ("attention", "feed-forward", "head"):
        assert parts[name]["flop"] == pytest.approx(2 * parts[name]["parameters"], rel=0.002)
        assert parts[name]["intensity"] == pytest.approx(1.0, rel=0.002), "two operations per two-byte weight"
    assert doc["state"]["per_token_bytes"] == 2 * 32 * 8 * 128 * 2


# design §5
def test_a_hybrid_keeps_a_state_whatever_the_length(run: Run) -> None:
    state = run("models", "show", "qwen3.5-27b", "--context", "8k", "--json").document["state"]
    assert state["bytes"] == pytest.approx(state["fixed_bytes"] + 8192 * state["per_token_bytes"])
    assert state["fixed_bytes"] > 0.0
    assert "recurrent state" in run("models", "show", "qwen3.5-27b").out


# design §10
def test_published_and_counted_parameters_stand_beside_each_other(run: Run) -> None:
    page = run("models", "show", "deepseek-v3").out
    assert "counted" in page
    assert "published" in page
    assert "active per token" in page


# design §10
def test_an_imported_model_works_by_its_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    first = run("models", "import", "config.json", "--name", "mine", "--json").document
    assert first["name"] == "mine"
    assert run("analyze", "mine", "--on", "t4", "--json").document["model"] == "mine"
    assert run("models", "show", "mine", "--json").document["layers"] == 4
    assert run("models", "import", "config.json", "--name", "mine", "--json").error["kind"] == "exists"
    assert run("models", "import", "config.json", "--name", "mine", "--replace").code == 0
