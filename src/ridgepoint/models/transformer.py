"""Stacks of layers as work: embedding, layers, head; encoder, decoder, or both; cut into pipeline stages."""

from __future__ import annotations

from collections.abc import Callable

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.models import attention, feed, recurrent
from ridgepoint.models.architecture import (
    DeltaAttention,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Model,
    Recurrence,
    SelfAttention,
    Stack,
)
from ridgepoint.models.dropout import with_dropout
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one, norm, projection
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective, Stream
from ridgepoint.work import Repeat, Seq, Work

_MIXERS: dict[type, Callable[..., Work]] = {
    SelfAttention: lambda m, hidden, tokens, run, causal, at: attention.self_attention(
        m, hidden, tokens, run, causal, f"{at}.attention"
    ),
    LatentAttention: lambda m, hidden, tokens, run, causal, at: attention.latent_attention(
        m, hidden, tokens, run, causal, f"{at}.attention"
    ),
    Mamba2: lambda m, hidden, tokens, run, causal, at: recurrent.mamba2(m, hidden, tokens, run, f"{at}.mamba"),
    Mamba1: lambda m, hidden, tokens, run, causal, at: recurrent.mamba1(m, hidden, tokens, run, f"{at}.mamba"),
    DeltaAttention: lambda m, hidden, tokens, run, causal, at: recurrent.delta_attention(
        m, hidden, tokens, run, f"{at}.delta"
    ),
    Recurrence: lambda m, hidden, tokens, run, causal, at: recurrent.recurrence(
        m, hidden, tokens, run, f"{at}.recurrence"
    ),
}
_FEEDS: dict[type, Callable[..., Work]] = {
    FeedForward: lambda f, hidden, tokens, run, at: feed.dense(f, hidden, tokens, run, f"{at}.feed"),
    Experts: lambda f, hidden, tokens, run, at: feed.experts(f, hidden, tokens, run, f"{at}.moe"),
}


def layer_work(layer: Layer, hidden: int, tokens: Tokens, run: Execution, causal: bool, at: str, source: Num) -> Work:
    """One layer on one device; ``source`` is the encoder length that cross-attention sees."""
    rows = tokens.total / run.cut.cp / (run.cut.tp if run.cut.sequence else 1.0)
    parts: list[Work] = []
    if layer.mixer is not None:
        parts.append(_MIXERS[type(layer.mixer)](layer.mixer, hidden, tokens, run, causal, at))
    if layer.cross is not None:
        parts.append(attention.cross_attention(layer.cross, hidden, tokens, source, run, f"{at}.cross"))
    if layer.feed is not None:
        parts.append(_FEEDS[type(layer.feed)](layer.feed, hidden, tokens, run, at))
    if layer.norms:
        parts.insert(0, Repeat(float(layer.norms), norm(run, f"{at}.norm", rows, hidden, rms=layer.rms_norm)))
    return with_dropout(Seq(*parts), run) if run.training and run.dropout > 0.0 else Seq(*parts)


def stack_work(stack: Stack, tokens: Tokens, run: Execution, at: str, source: Num = 0.0, share: Num = 1.0) -> Work:
    """The layers of a stack, equal ones together; ``share`` is the part of them that lies on one pipeline stage."""
    counts: dict[Layer, int] = {}
    for layer, count in stack.layers:
        counts[layer] = counts.get(layer, 0) + count
    return Seq(
        *(
            Repeat(share * float(count), layer_work(layer, stack.hidden, tokens, run, stack.causal, at, source))
            for layer, count in counts.items()
        )
    )


def embed(model: Model, rows: Num, run: Execution, at: str = "embedding") -> Work:
    """Table look-up of ``rows`` tokens (and positions, token types), a projection where the table is narrower."""
    table = model.embedding
    width = table.width or model.hidden
    stored = FORMATS[run.formats.weight("embedding")].bytes
    tables = 1.0 + (table.learned_positions > 0) + (table.types > 0)
    look_up = Stream(
        read_bytes=rows * width * stored * tables,
        write_bytes=rows * width * FORMATS[run.formats.stream].bytes,
        flop=rows * width * (tables - 1.0),
        pattern="gather",
        label=at,
    )
    parts: list[Work] = [look_up]
    if table.norm:
        parts.append(norm(run, f"{at}.norm", rows, width, residual=False))
    if table.width and table.width != model.hidden:
        parts.append(projection(run, "embedding", f"{at}.projection", rows, model.hidden, width))
    return Seq(*parts)


def logits(model: Model, kept: Num, run: Execution) -> Work:
    """Final norm and output projection for ``kept`` positions, vocabulary split over the tensor-parallel ranks."""
    table, tp = model.embedding, run.cut.table_slices
    width = table.width or model.hidden
    parts: list[Work] = []
    if model.main.final_norm:
        parts.append(norm(run, "head.norm", kept, model.hidden, rms=model.main.rms_norm))
    if table.head:
        if table.width and table.width != model.hidden:
            parts.append(projection(run, "head", "head.projection", kept, width, model.hidden))
        parts.append(projection(run, "head", "head.logits", kept, table.vocab / tp, width))
    return Seq(*parts)


def sample(model: Model, kept: Num, run: Execution) -> Work:
    """Gathering the logits of ``kept`` positions over the ranks, softmax and choice of the next token."""
    vocab = float(model.embedding.vocab)
    gathered = kept * vocab * FORMATS[run.formats.stream].bytes
    choose = Stream(
        read_bytes=gathered + 4.0 * kept * vocab,
        write_bytes=4.0 * kept * vocab,
        flop=4.0 * kept * vocab,
        special=kept * vocab,
        pattern="sample",
        rows=kept,
        launches=3.0,
        label="head.sample",
    )
    if is_one(run.cut.table_slices):
        return choose
    return Seq(Collective(operation="all_gather", bytes=gathered, ranks=run.cut.tp, label="head.gather"), choose)


def decoder_of(model: Model) -> Stack:
    """The stack that generates tokens; refused where there is none."""
    if model.decoder is None:
        raise RidgepointError(
            "bad_task",
            f"{model.name} has no decoder and generates no tokens",
            "use --task forward with --batch and --seq",
        )
    return model.decoder
