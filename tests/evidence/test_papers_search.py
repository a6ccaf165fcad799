"""Search over the papers: people describe a problem, and its papers come first (issue "Evidence")."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.papers.catalog import papers
from ridgepoint.evidence.papers.search import search_papers
from ridgepoint.evidence.papers.terms import terms

QUESTIONS = {
    "my GPU waits for the data loader": {"ffcv", "beyond-inference", "piper-preprocessing"},
    "image generation takes too many steps": {"instaflow", "adaptive-guidance", "frecas"},
    "model does not fit on one GPU, run part of it on the CPU": {"fiddler", "hetegen", "superpipeline"},
    "run a large model from flash storage on a phone": {"llm-in-a-flash", "smallthinker"},
    "weights in 4 bits make decoding faster?": {"gptq", "slm-ecommerce-quant", "quantspec"},
    "one token at a time is slow, can we guess several?": {"parallel-prompt-decoding", "pass-speculative", "copyspec"},
    "too many image tokens in my vision language model": {"vtc-cls", "voco-llama", "globalcom2"},
    "all-to-all between experts is the bottleneck": {"exflow", "scmoe", "deepseek-v3-insights"},
    "all-reduce takes too long in tensor parallel inference": {"tokenweave", "kraken", "ladder-residual"},
    "pipeline stages sit idle": {"2bp", "vocabulary-parallelism"},
    "training runs out of memory because of activations": {"sublinear-memory", "moccasin"},
    "optimizer states do not fit": {"zero", "deep-optimizer-states"},
    "long prompts make the first token slow": {"trianglemix"},
    "GPUs fail all the time and training restarts": {"c4-alibaba"},
    "saving checkpoints stalls training": {"datastates-llm"},
    "which GPU is cheapest to rent for serving": {"melange"},
    "power limit of the data center": {"polca"},
    "fine-tune a 65B model on one card": {"peqa"},
    "the reasoning model thinks too long and costs too much": {"overthinking-o1", "quietstar-rebase-study"},
    "send easy questions to a cheap model": {"ebjr", "llm-routing-survey", "compute-optimal-tts"},
    "vector search over a billion embeddings": {"faiss-gpu"},
    "expensive physics simulation inside an optimization loop": {"equino", "urban-tree-placement"},
    "sequences of very different length leave ranks idle": {"zeppelin"},
    "how large should my model be for a compute budget": {"dfa-scaling-laws", "data-constrained-scaling"},
    "many tiny kernels, the GPU is idle between launches": {"skip-tklqt", "fused-kernel-library"},
    "prefill of new requests delays decoding": {"nexus-intra-gpu", "splitwise"},
    "2:4 sparsity": {"armor-2-4", "bdwp-sat"},
    "does a state-space model beat a transformer at long context": {"ssm-hybrid-characterization"},
    "video generation in 4K is too slow": {"ultragen"},
    "network for a microcontroller with 32 kB of memory": {"mcunetv2"},
    "object detector in real time on a phone": {"rt-detr", "leyolo"},
    "training with volunteers over slow links": {"dedloc"},
    "reuse a cached prefix after an edit": {"positional-integrity-encoding"},
    "int8 CNN on a mobile CPU": {"quantization-whitepaper"},
    "training in FP8 or FP4": {"fp4-design-space", "fp8-and-back"},
    "run a chatbot on CPU only": {"cpu-llm-inference", "xfastertransformer"},
    "mixture of experts larger than GPU memory": {"moe-deployment-characterization", "fiddler", "moe-lens"},
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_problem_finds_its_papers(question: str) -> None:
    first = [hit.paper.slug for hit in search_papers(question, top=3)]
    assert QUESTIONS[question] & set(first), first


# issue "Evidence"
@pytest.mark.parametrize(
    "question",
    [
        "cached keys and values too big",
        "KV cache fills the memory",
        "the key-value cache gets too large at long context",
    ],
)
def test_the_kv_cache_comes_first(question: str) -> None:
    for hit in search_papers(question, top=5):
        assert any(tag.startswith("kv_") for tag in hit.paper.mechanism) or "cache" in hit.paper.does, hit.paper.slug


def test_every_paper_is_found_by_its_name() -> None:
    """All rows are listed and found: by slug and by name the paper itself comes first."""
    for slug, paper in papers().items():
        assert search_papers(slug, top=1)[0].paper.slug == slug
        assert search_papers(paper.name, top=1)[0].paper.slug == slug


@pytest.mark.parametrize(("spaced", "slug"), [("flash attention", "flashattention"), ("Split-Wise", "splitwise")])
def test_names_may_be_spaced(spaced: str, slug: str) -> None:
    assert search_papers(spaced)[0].paper.slug == slug


def test_word_forms_do_not_matter() -> None:
    slugs = [hit.paper.slug for hit in search_papers("quantized weight")]
    assert slugs == [hit.paper.slug for hit in search_papers("quantizing weights")]


def test_the_question_is_explained_by_the_tags_it_was_read_as() -> None:
    assert search_papers("cached keys and values too big")[0].understood == ("kv_compression", "kv_eviction")


def test_no_phrase_is_so_general_that_any_question_holds_it() -> None:
    """A phrase of one everyday word would add its tag to every question."""
    for word in ("gpu", "model", "slow", "fast", "large", "does", "training", "inference"):
        for tag in () if not (hits := search_papers(word, top=1)) else hits[0].understood:
            known = {**terms().mechanism, **terms().bottleneck, **terms().domain}
            assert word in known[tag].words, (word, tag)


def test_unknown_words_find_nothing_and_no_words_are_refused() -> None:
    assert search_papers("qqqxyzzy") == ()
    for question in ("", "  ?! ", '"'):
        with pytest.raises(RidgepointError, match="no words"):
            search_papers(question)


@given(st.text(max_size=80))
def test_any_text_is_a_question(text: str) -> None:
    """Quotes, operators and columns of the query language mean nothing."""
    if re.search(r"\w", text):
        assert len(search_papers(text, top=3)) <= 3
    else:
        with pytest.raises(RidgepointError, match="no words"):
            search_papers(text)


@pytest.mark.parametrize("operator", ['NEAR("a" b)', "slug:x", "a AND OR b", "x*", "NOT", "-", '"unclosed'])
def test_operators_of_the_query_language_are_words(operator: str) -> None:
    search_papers(operator + " cache")


def test_several_threads_get_the_same_answers():
    """The local page searches from a pool of threads; the index is one."""
    questions = ["cached keys and values too big", "the GPU waits for the data loader", "all-reduce is slow"] * 6
    alone = [[hit.paper.slug for hit in search_papers(q, top=5)] for q in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda q: [hit.paper.slug for hit in search_papers(q, top=5)], questions))
    assert together == alone
