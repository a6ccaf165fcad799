"""Any option value gets a result or a sentence, never a traceback (design §10)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ridgepoint.cli.options import SETTINGS
from tests.cli.conftest import answer

WORDS = st.one_of(
    st.sampled_from(
        ["0", "-1", "1", "2", "3", "8", "64", "8k", "1e9", "1e400", "nan", "inf", "", " ", "½", "0.5", "1_000"]
    ),
    st.sampled_from(
        ["bf16", "fp8", "int4", "nvfp4", "fp64", "ternary", "full", "none", "adam", "gpipe", "eager", "train"]
    ),
    st.sampled_from(["prefill", "decode", "generate", "forward", "sample", "interleaved", "999999999", "1000000000"]),
    st.text(max_size=6).filter(lambda text: not text.startswith("-")),
)
OPTIONS = st.sampled_from(SETTINGS).flatmap(
    lambda s: st.sampled_from(s.words.split("/")).map(lambda w: (w,)) if s.flag else WORDS.map(lambda v: (s.words, v))
)
TASKS = st.sampled_from(["prefill", "decode", "generate", "train", "forward"])
MODELS = st.sampled_from(["llama-3.1-8b", "deepseek-v3", "qwen3.5-27b", "bert-large", "t5-11b", "gpt2", "resnet50"])
MACHINES = st.sampled_from(["h100-sxm", "8xh100-sxm", "4x8xh100-sxm", "t4", "m2-ultra", "epyc-9654", "stm32f746"])


# design §10
@settings(max_examples=120)
@given(model=MODELS, machine=MACHINES, task=TASKS, options=st.lists(OPTIONS, max_size=4), as_json=st.booleans())
def test_options_get_a_result_or_a_sentence(
    model: str, machine: str, task: str, options: list[tuple[str, ...]], as_json: bool
) -> None:
    words = [word for option in options for word in option]
    given_task = [] if "--task" in words else ["--task", task]
    found = answer("analyze", model, "--on", machine, *given_task, *words, *(["--json"] if as_json else []))
    assert found.code in (0, 2), (words, found.out, found.err)
    assert "Traceback" not in found.err
    if as_json:
        assert ("error" in found.document) == (found.code == 2)


# design §10
@settings(max_examples=60)
@given(name=st.text(max_size=12).filter(lambda text: not text.startswith("-")))
def test_names_get_a_result_or_a_sentence(name: str) -> None:
    for arguments in (("analyze", name, "--on", "t4"), ("analyze", "gpt2", "--on", name), ("machines", "show", name)):
        found = answer(*arguments)
        assert found.code in (0, 2), (arguments, found.err)
