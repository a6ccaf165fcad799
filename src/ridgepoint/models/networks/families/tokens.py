"""Pieces that transformers of every kind share: attention, feed-forward parts, embeddings of scalars and labels."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.models.networks.shapes import Map, Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def head_norm(tape: Tape, x: Rows, heads: Num, head_dim: Num, kind: str, name: str) -> None:
    """A norm of every head's vector; all heads share its scale."""
    tape.norm(Rows(x.batch, x.length * heads, float(head_dim)), kind, name=name)


def attention(
    tape: Tape,
    x: Rows,
    heads: int,
    head_dim: int = 0,
    context: Rows | None = None,
    *,
    kv_heads: int = 0,
    bias: bool = True,
    out_bias: bool = True,
    qk_norm: str = "",
    full_norm: bool = False,
    rope: bool = False,
    causal: bool = False,
    out: Num | None = None,
    name: str = "attention",
) -> Rows:
    """Projections, softmax attention to ``context`` (itself by default) and the output projection.

    ``qk_norm`` normalises every head's queries and keys, or with ``full_norm`` their whole width.
    """
    head_dim = head_dim or int(x.channels) // heads
    width, kv_width = float(heads * head_dim), float((kv_heads or heads) * head_dim)
    with tape.scope(name):
        if context is None:
            tape.linear(x, width + 2.0 * kv_width, bias, "qkv")
        else:
            tape.linear(x, width, bias, "query")
            tape.linear(context, 2.0 * kv_width, bias, "key_value")
        keys = x if context is None else context
        if qk_norm:
            for rows, size, count, what in ((x, width, heads, "query"), (keys, kv_width, kv_heads or heads, "key")):
                if full_norm:
                    tape.norm(replace(rows, channels=size), qk_norm, name=f"{what}_norm")
                else:
                    head_norm(tape, rows, count, head_dim, qk_norm, f"{what}_norm")
        if rope:
            tape.scale(replace(x, channels=width + kv_width), name="rotary")
        y = tape.attend(x, keys, heads, head_dim, kv_heads or heads, causal)
        return tape.linear(y, x.channels if out is None else out, out_bias, "output")


def linear_attention(
    tape: Tape, x: Rows, heads: int, head_dim: int, bias: bool = False, name: str = "attention"
) -> Rows:
    """Attention with ReLU features (Katharopoulos et al. 2020): keys times values first, head_dim² numbers per head."""
    with tape.scope(name):
        qkv = tape.linear(x, 3.0 * heads * head_dim, bias, "qkv")
        tape.activate(replace(qkv, channels=2.0 * heads * head_dim), name="features")
        pairs = x.batch * heads
        tape.matmul(head_dim + 1.0, float(head_dim), x.length, pairs, "key_value")
        tape.matmul(x.length, head_dim + 1.0, float(head_dim), pairs, "values")
        y = tape.scale(replace(x, channels=float(heads * head_dim)), name="normalise")
        return tape.linear(y, x.channels, True, "output")


def feed_forward(
    tape: Tape,
    x: Rows,
    width: Num,
    *,
    gated: bool = False,
    bias: bool = True,
    out: Num | None = None,
    name: str = "feed",
) -> Rows:
    """Two projections around a nonlinearity; ``gated`` multiplies it by a third (SwiGLU, GEGLU)."""
    with tape.scope(name):
        y = tape.linear(x, 2.0 * width if gated else width, bias, "up")
        y = tape.activate(replace(y, channels=float(width)), special=1.0)
        if gated:
            tape.multiply(y, "gate")
        return tape.linear(y, x.channels if out is None else out, bias, "down")


def mlp(tape: Tape, x: Rows, *widths: Num, bias: bool = True, special: float = 1.0, name: str = "mlp") -> Rows:
    """Projections of the given widths with nonlinearities between them."""
    with tape.scope(name):
        for index, width in enumerate(widths):
            x = tape.linear(x, width, bias, f"linear{index}")
            if index + 1 < len(widths):
                x = tape.activate(x, special)
    return x


def transformer_layer(
    tape: Tape,
    x: Rows,
    heads: int,
    width: Num,
    *,
    head_dim: int = 0,
    kv_heads: int = 0,
    gated: bool = False,
    bias: bool = True,
    qkv_bias: bool | None = None,
    norm: str = "layer",
    rope: bool = False,
    causal: bool = False,
    post_norms: bool = False,
) -> Rows:
    """A pre-norm layer: attention and feed-forward part, each added to its input; ``post_norms`` (Gemma) doubles the norms."""
    y = attention(
        tape, tape.norm(x, norm, name="norm1"), heads, head_dim, kv_heads=kv_heads,
        bias=bias if qkv_bias is None else qkv_bias, out_bias=bias, rope=rope, causal=causal,
    )  # fmt: skip
    if post_norms:
        tape.norm(y, norm, name="post_norm1")
    x = tape.add(y)
    y = feed_forward(tape, tape.norm(x, norm, name="norm2"), width, gated=gated, bias=bias)
    if post_norms:
        tape.norm(y, norm, name="post_norm2")
    return tape.add(y)


def one_row(tape: Tape, channels: Num, batch: Num | None = None) -> Rows:
    """One vector per sample: a timestep, a pooled text, a class."""
    return Rows(tape.batch if batch is None else batch, 1.0, float(channels))


def vision_tower(
    tape: Tape, width: int, depth: int, heads: int, feed: int, patch: int, image_px: Num, images: Num = 1.0, extra: int = 0,
    *, bias: bool = True, patch_bias: bool = True, pre_norm: bool = False, gated: bool = False, name: str = "vision",
) -> Rows:  # fmt: skip
    """A ViT over ``images`` pictures per sample: patches plus ``extra`` tokens. Position embeddings are counted for the
    picture that is given.
    """
    with tape.scope(name):
        x = Map(tape.batch * images, 3.0, image_px, image_px)
        patches = tape.to_rows(tape.conv(x, width, patch, patch, bias=patch_bias, pad=0, name="patches"))
        rows = replace(patches, length=patches.length + extra)
        if pre_norm:
            rows = tape.norm(rows, "layer", name="pre_norm")
        return tape.repeat(depth, lambda y: transformer_layer(tape, y, heads, feed, bias=bias, gated=gated), rows)
