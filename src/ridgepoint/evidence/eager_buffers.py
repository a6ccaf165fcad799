"""What eager transformers hold from the start beside weights and cache: tables, workspaces, scratch of 4-bit kernels.

Sizes are those of the libraries' sources: ``LlamaRotaryEmbedding`` of transformers before 4.38 (tables in every layer),
PyTorch's default workspace of cuBLAS, and the buffers of AutoGPTQ's ``qlinear_exllama`` and ``qlinear_exllamav2``.
"""

from __future__ import annotations

from ridgepoint.models.architecture import FeedForward, Model, SelfAttention

HALF = 2.0
WORKSPACE_BYTES = 2 * 4096 * 1024.0 + 8 * 16 * 1024.0
"""``CUBLAS_WORKSPACE_CONFIG`` as PyTorch sets it on Ampere: ``:4096:2:16:8``."""
MOST_TOKENS, MOST_SEQUENCES = 2048.0, 8.0
"""Rows that the buffers of 4-bit kernels are made for: tokens, and with ExLlama v2 also sequences, of 32-bit sums."""
SUM_BYTES = 4.0
GROUP = 128.0
"""Weights that share a scale of 16 bits, which the format counts, and a zero point of 4, which it does not."""


def fixed_bytes(model: Model, experiment: str) -> float:
    """Bytes beside the model's own, for one of the kernels that ``experiment`` names (``…+exllamav1``, ``…+exllamav2``).

    >>> from ridgepoint.models.catalog import find_model
    >>> [round(fixed_bytes(find_model("llama-7b"), name) / 1e6) for name in ("fp16", "fp16+gptq+exllamav2")]
    [42, 879]
    """
    found = WORKSPACE_BYTES + _rotary_tables(model)
    products = _products(model)
    if "exllama" not in experiment or not products:
        return found
    widest = max(float(k * n) for k, n, _ in products)
    zeros = sum(k * n * count for k, n, count in products) / GROUP / 2.0
    if experiment.endswith("exllamav2"):
        scratch = max(k * n * HALF + n * MOST_TOKENS * MOST_SEQUENCES * SUM_BYTES for k, n, _ in products)
    else:
        scratch = widest * HALF + max(max(k, n) for k, n, _ in products) * MOST_TOKENS * HALF
    return found + zeros + scratch


def _rotary_tables(model: Model) -> float:
    """Cosines and sines of all positions, in every layer."""
    return sum(
        2.0 * model.max_context * layer.mixer.head_dim * HALF * count
        for layer, count in model.main.layers
        if isinstance(layer.mixer, SelfAttention) and layer.mixer.rope
    )


def _products(model: Model) -> list[tuple[int, int, int]]:
    """(inputs, outputs, how many) of every quantized projection: those of attention and feed-forward part, one by one."""
    found: list[tuple[int, int, int]] = []
    hidden = model.main.hidden
    for layer, count in model.main.layers:
        mixer, feed = layer.mixer, layer.feed
        if isinstance(mixer, SelfAttention):
            width, narrow = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
            found += [(hidden, width, count), (hidden, narrow, 2 * count), (width, hidden, count)]
        if isinstance(feed, FeedForward):
            found += [(hidden, feed.width, (2 if feed.gated else 1) * count), (feed.width, hidden, count)]
    return found
