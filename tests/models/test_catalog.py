"""Finding models: names, aliases, paths, a user's own catalogue, errors."""

import json
from pathlib import Path

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.models import catalog
from ridgepoint.models.catalog import (
    Entry,
    find_entry,
    find_model,
    fold,
    import_model,
    model_entries,
    model_names,
    read_entries,
)
from ridgepoint.models.parameters import total_parameters

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
    "num_attention_heads": 8,    "vocab_size": 1000, "torch_dtype": "bfloat16", "rope_scaling": None,
    "eos_token_id": [1, 2], "odd key": 'a "b" \n é',
    "quantization_config": {"quant_method": "gptq", "bits": 4, "inner": {"list": [1.5, True, "x"]}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path / "catalog"))
    return tmp_path / "catalog" / "models"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my-model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    return path


def test_names_and_aliases_ignore_case_and_spaces():
    model = find_model("llama-3.1-8b")
    assert find_model(" Meta-Llama/LLAMA-3.1_8B ") == model
    assert (model.title, model.published_parameters) == ("Llama 3.1 8B", 8030261248.0)
    assert model.source


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("moonshotai/Kimi-K2-Thinking", "kimi-k2"),
        ("DeepSeek-R1-0528", "deepseek-r1"),
        ("Llama-2-70b-hf", "llama-2-70b"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "qwen3-30b-a3b"),
    ],
)
def test_what_a_model_was_tuned_for_changes_no_shape(written, meant):
    """Rows of tables name checkpoints; a name that was refused was a row that nobody predicted."""
    assert find_model(written).name == meant


@pytest.mark.parametrize(
    "written", ["mistral-7b-v0.1-fp9", "phi-3-mini-1m", "a/b/c", "bert-99", "-instruct", "swin-base-chat"]
)
def test_what_is_another_model_is_not_guessed(written):
    with pytest.raises(RidgepointError):
        find_model(written)


def test_no_name_or_alias_is_given_twice():
    owner: dict[str, str] = {}
    for entry in model_entries():
        for name in {fold(entry.name), *map(fold, entry.aliases)}:
            assert owner.setdefault(name, entry.name) == entry.name


def test_the_text_scan_finds_what_the_parser_finds():
    for entry in model_entries():
        for name in (entry.name, *entry.aliases):
            assert find_entry(name) == entry
    assert model_names() == [entry.name for entry in model_entries()]


def test_a_look_up_parses_one_entry(monkeypatch):
    parsed: list[str] = []

    def parse(text: str, where: str) -> tuple[Entry, ...]:
        parsed.append(text)
        return read_entries(text, where)

    monkeypatch.setattr(catalog, "read_entries", parse)
    catalog._parse.cache_clear()
    assert find_entry("llama-3.1-70b") is not None
    assert len(parsed) == 1
    assert parsed[0].count("[[model]]") == 1


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(RidgepointError) as caught:
        find_model("llama-3.1-8x")
    assert caught.value.kind == "unknown_model"
    assert "llama-3.1-8b" in caught.value.hint


@pytest.mark.parametrize("name", ["resnet50", "MobileNetV2", "open-sora"])
def test_a_network_is_not_answered_with_transformers_that_sound_like_it(name):
    # Wrong: "did you mean retnet?" for a name that estimates take.
    with pytest.raises(RidgepointError, match="is a network") as caught:
        find_model(name)
    assert "rp.estimate" in caught.value.hint


@pytest.mark.parametrize("name", ["", "\0", "no/such/config.json", "x" * 5000, "~nobody/x"])
def test_odd_names_give_a_sentence(name):
    with pytest.raises(RidgepointError):
        find_model(name)


def test_a_path_to_a_file_or_its_folder(config):
    model = find_model(config)
    assert model == find_model(str(config.parent))
    assert model.name == "my-model"
    assert total_parameters(model) == 2 * 64_000 + 4 * (4 * 64 * 64 + 3 * 64 * 160 + 128) + 64


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "\ud800", '{"a": ' + "9" * 5000 + "}", "[" * 100_000])
def test_a_broken_file_is_a_sentence(config, text):
    config.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RidgepointError) as caught:
        find_model(config)
    assert caught.value.kind == "bad_config"
    assert str(config) in caught.value.message


def test_unknown_keys_and_wrong_types_of_an_entry_are_refused():
    entry = '[[model]]\nname = "x"\ntitle = "X"\nreleased = 2024\nparameters = 1e9\n'
    entry += 'parameters_source = "s"\nconfig_source = "s"\n'
    assert read_entries(entry + "[model.config]\n", "x.toml")[0].name == "x"
    with pytest.raises(RidgepointError, match=r"x\.toml: .*unknown field `colour`"):
        read_entries(entry + 'colour = "red"\n[model.config]\n', "x.toml")
    with pytest.raises(RidgepointError, match=r"x\.toml: .*missing required field `config`"):
        read_entries(entry, "x.toml")
    with pytest.raises(RidgepointError, match="not valid TOML"):
        read_entries("[[model", "x.toml")


def test_the_formats_that_modelopt_writes_beside_a_config(config):
    quantization = {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.*.self_attn*"]}
    config.write_text(json.dumps({k: v for k, v in CONFIG.items() if k != "quantization_config"}))
    (config.parent / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    precision = find_model(config).precision
    assert precision.weights == "nvfp4"
    assert "attention" in dict(precision.exceptions)


# Importing


def test_an_imported_model_is_found_by_its_name(config, own_catalog):
    path = import_model(config, "Mine-1b")
    assert path == own_catalog / "mine-1b.toml"
    imported, direct = find_model("mine-1b"), find_model(config)
    assert imported.decoder == direct.decoder
    assert imported.precision == direct.precision
    assert "mine-1b" in model_names()
    entry = find_entry("mine-1b")
    assert entry is not None
    assert entry.config == {k: v for k, v in CONFIG.items() if v is not None}
    assert not list(own_catalog.glob("*.tmp*"))


def test_importing_does_not_overwrite_unless_told(config):
    path = import_model(config, "mine")
    before = path.read_text()
    config.write_text(json.dumps(CONFIG | {"num_hidden_layers": 8}))
    with pytest.raises(RidgepointError, match="already"):
        import_model(config, "mine")
    assert path.read_text() == before
    assert find_model("mine").main.depth == 4
    import_model(config, "mine", replace=True)
    assert find_model("mine").main.depth == 8


def test_importing_refuses_a_name_of_the_catalogue_unless_told(config):
    with pytest.raises(RidgepointError, match="already"):
        import_model(config, "llama-3.1-8b")
    import_model(config, "llama-3.1-8b", replace=True)
    assert find_model("llama-3.1-8b").hidden == 64


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a:b", "x" * 200, "é"])
def test_importing_refuses_names_that_are_no_file_names(config, name):
    with pytest.raises(RidgepointError, match="name"):
        import_model(config, name)


def test_a_config_that_cannot_be_read_is_not_imported(config, own_catalog):
    config.write_text(json.dumps(CONFIG | {"hidden_size": -1}))
    with pytest.raises(RidgepointError, match="hidden_size"):
        import_model(config, "mine")
    assert not own_catalog.exists()


def test_a_broken_user_file_is_named(own_catalog):
    own_catalog.mkdir(parents=True)
    (own_catalog / "broken.toml").write_text("[[model]]\nname = 3\n")
    with pytest.raises(RidgepointError, match=r"broken\.toml"):
        find_model("llama-3.1-8b")
