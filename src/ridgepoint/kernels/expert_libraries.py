"""Habits of libraries of fused expert layers: what runs beside their two products.

Facts of a library's code and of its smallest timed layers, whatever the machine. What its products reach of a machine is in
the machine's tables (``grouped`` fractions), under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpertLibrary:
    """``launches``: kernels that pick experts, sort tokens by them, convert them and put them in place. ``keeps``: it has a
    place for every choice of every token, other ranks' included: those stay in the activation and the weighted sum, and blocks
    write zeros there.
    """

    launches: float = 4.0
    keeps: bool = False


EXPERT_LIBRARIES = {
    "cutlass": ExpertLibrary(3.0),
    "cutlass-fp8": ExpertLibrary(4.0),
    "cutlass-nvfp4": ExpertLibrary(4.0),
    "cutlass-fp8_block": ExpertLibrary(2.0),
    "deepgemm": ExpertLibrary(20.0),
    # Triton's and Marlin's layers in vLLM and SGLang: blocks whose expert is not on the rank end after their zeros.
    "marlin": ExpertLibrary(4.0, keeps=True),
    "triton": ExpertLibrary(2.0, keeps=True),
    "triton-fp8_block": ExpertLibrary(3.0, keeps=True),
    "triton_mxfp4": ExpertLibrary(24.0, keeps=True),
    # TensorRT-LLM's generated kernels, also through FlashInfer; ``tuned``: with tiles that were timed.
    "trtllm_gen": ExpertLibrary(3.0),
    "trtllm_gen-bf16": ExpertLibrary(1.0),
    "trtllm_gen-fp8_block": ExpertLibrary(5.0),
    "trtllm_gen_tuned": ExpertLibrary(3.0),
}


def expert_library(name: str) -> ExpertLibrary:
    """What is known of a library's layers in a format (``library-format``), else in any; else what is usual.

    >>> expert_library("triton-fp8_block").launches, expert_library("triton-bf16").launches, expert_library("").launches
    (3.0, 2.0, 4.0)
    """
    return EXPERT_LIBRARIES.get(name) or EXPERT_LIBRARIES.get(name.partition("-")[0], ExpertLibrary())
