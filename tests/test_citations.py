"""What a run relied on (design §7)."""

import re
from pathlib import Path

import ridgepoint as rp
from ridgepoint.citations import cite
from ridgepoint.kernels import KERNELS

SOURCE = Path(rp.__file__).parent


def test_every_source_of_a_kernel_model_is_a_known_publication() -> None:
    """A key without a publication would break --citations for every run that uses the kernel."""
    for rules in KERNELS.values():
        for key in rules.sources:
            assert re.search(r"\d{4}", cite(key))


def test_a_run_cites_its_kernels_and_the_provenance_of_its_coefficients() -> None:
    """design §4: each coefficient says whether it was measured, and on how many rows."""
    cited = "\n".join(rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=1, context=1024)).citations)
    assert "FlashAttention-2" in cited
    assert re.search(r"gemm coefficients fitted to this machine: fitted, [\d,]+ rows", cited)


def test_what_was_not_used_is_not_cited() -> None:
    """Citations are of this run: a single device does no collectives."""
    one = "\n".join(rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode()).citations)
    two = "\n".join(rp.estimate("llama-3.1-8b", on="2xh100-sxm", task=rp.Decode()).citations)
    assert "collective coefficients" not in one
    assert "collective coefficients" in two
