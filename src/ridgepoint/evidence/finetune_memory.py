"""Peak memory of fine-tuning beside frozen weights in LitGPT: what autograd keeps, tensor by tensor.

A frozen product needs nothing kept for its backward pass but its weights, so that far less stays than in full training. What
the lines of ``lit_gpt/{model,lora,adapter,adapter_v2}.py`` (October 2023) leave, per token and layer, in 16 bits each:

- norms keep their inputs, of which layers in parallel share one; trained ones (adapter v2) also the normalised values;
- values are a view of the fused projection's output, which so stays whole beside the rotated queries and keys; fused attention
  keeps its output;
- activations keep their inputs (gated ones three tensors);
- LoRA on queries and values keeps a dropped-out input and its mask, and what ``index_copy`` puts into place;
- adapter v2's scales keep the output of every product, the first adapter's gate that of its attention to the prompt;
- 4-bit products of bitsandbytes keep their inputs after all (``MatMul4Bit`` saves both operands) and widen the weights of one
  product at a time.

At the peak the gradients of one layer are there as well, and the logits with their logarithms.
"""

from __future__ import annotations

from ridgepoint.evidence.rows import InexpressibleError
from ridgepoint.models.architecture import FeedForward, Layer, Model, SelfAttention
from ridgepoint.numeric import Num

HALF = 2.0
"""Bytes of a value."""
SCALE_BYTES = {"nf4": 4.0 / 64.0, "nf4-dq": 1.0 / 64.0 + 4.0 / (64.0 * 256.0)}
"""Bytes of scales per weight: one of 32 bits for 64 weights; doubly quantized ones of 8 bits, and 32 for 256 of those."""
NIBBLE = 0.5
LONGEST = {32_000: 1304.0, 50_688: 1034.0, 51_200: 1044.0, 65_024: 1079.0}
"""Tokens of the longest example of Alpaca by the size of the vocabulary: Llama 2, StableLM Alpha, phi-1.5, Falcon (LitGPT's
``tutorials/resource-tables.md``). It decides the peak."""


def longest(model: Model) -> float:
    """Tokens of the longest example with the model's vocabulary, or the one nearest in size.

    >>> from ridgepoint.models.catalog import find_model
    >>> longest(find_model("llama-2-7b")), longest(find_model("phi-1.5"))
    (1304.0, 1044.0)
    """
    return LONGEST[min(LONGEST, key=lambda size: abs(size - model.embedding.vocab))]


def peak_bytes(model: Model, parameters: float, method: str, precision: str, tokens: Num) -> Num:
    """Bytes at the peak of a micro-batch of so many ``tokens``, padded ones included.

    ``parameters``: all weights; ``method``: lora, adapter or adapter_v2; ``precision``: that of the frozen weights.
    """
    depth, hidden, vocab = float(model.main.depth), float(model.main.hidden), float(model.embedding.vocab)
    narrow = precision in SCALE_BYTES
    kept = _layer_values(model.main.layers[0][0], hidden, method, narrow)
    values = tokens * (kept * (depth + 1.0) + vocab * (3.0 if method == "adapter_v2" else 2.0))
    return _weight_bytes(parameters, vocab * hidden, precision) + values * HALF


def _weight_bytes(parameters: float, table: float, precision: str) -> float:
    """Products, the head among them, in 4 bits where they are quantized, and the widest of them once more in 16."""
    if precision not in SCALE_BYTES:
        return parameters * HALF
    return (parameters - table) * (NIBBLE + SCALE_BYTES[precision]) + 2.0 * table * HALF


def _layer_values(layer: Layer, hidden: float, method: str, narrow: bool) -> float:
    """Values of a layer that are kept per token; the mask of a dropout counts half of one."""
    mixer, feed = layer.mixer, layer.feed
    if not isinstance(mixer, SelfAttention) or not isinstance(feed, FeedForward):
        raise InexpressibleError("what fine-tuning keeps is known for attention with dense feed-forward parts")
    width = mixer.heads * mixer.head_dim
    fused = width + 2.0 * mixer.kv_heads * mixer.head_dim
    into = 2.0 * feed.width if feed.gated else float(feed.width)
    norms = float(min(layer.norms, 1) if layer.parallel else layer.norms)
    # With fewer heads of keys and values these are copied for all heads, and the fused output goes.
    heads = 4.0 * width if mixer.kv_heads < mixer.heads else fused + 3.0 * width
    found = norms * hidden + heads + into + (feed.width if feed.gated else 0.0)
    found += _OF_METHOD[method](hidden, float(width), fused, into, float(layer.norms))
    if narrow:
        found += layer.norms * hidden + feed.width
    return found


def _lora(hidden: float, width: float, fused: float, into: float, norms: float) -> float:
    return 1.5 * hidden + (width + fused) / 2.0


def _adapter(hidden: float, width: float, fused: float, into: float, norms: float) -> float:
    return width


def _adapter_v2(hidden: float, width: float, fused: float, into: float, norms: float) -> float:
    return width + fused + into + 2.0 * hidden + norms * hidden


_OF_METHOD = {"lora": _lora, "adapter": _adapter, "adapter_v2": _adapter_v2}
PRECISIONS = ("bf16", "fp16", *SCALE_BYTES)
"""Formats of frozen weights whose products' memory is known."""
ALL_WEIGHTS = ("", "full", "sft")
"""Methods that train the whole model, as pre-training does."""
OF_ALPACA = ("litgpt",)
"""Sources whose ``prompt`` is the longest example of Alpaca: it decides the peak, and few sequences come near it."""
METHODS = tuple(_OF_METHOD)
"""Low-rank products beside the queries' and values' projections; a learnt prefix behind a gate; scales and biases besides."""
