"""Encoders (BERT and its descendants) and encoder–decoders (T5, Switch, BART, Pegasus, NLLB)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.models.architecture import Embedding, Experts, Feed, FeedForward, Layer, Model, SelfAttention, Stack
from ridgepoint.models.huggingface.fields import Fields
from ridgepoint.models.huggingface.style import Style, composed, experts, finish, head_dim, runs
from ridgepoint.models.huggingface.towers import read_classifier


def read_bert(f: Fields, name: str) -> Model:
    """BERT: post-norm layers, three tables under one norm, a pooler or (for masked language models) a tied head."""
    return _encoder(f, name, types=2, extra_positions=0)


def read_roberta(f: Fields, name: str) -> Model:
    """RoBERTa: BERT's shapes with one token type; its position table already counts the two padding rows."""
    return _encoder(f.with_defaults({"type_vocab_size": 1}), name, types=1, extra_positions=0)


def read_distilbert(f: Fields, name: str) -> Model:
    """DistilBERT: BERT without token types and pooler."""
    return _encoder(f, name, types=0, extra_positions=0, pooler=False)


def _encoder(f: Fields, name: str, types: int, extra_positions: int, pooler: bool = True) -> Model:
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    mixer = SelfAttention(heads, heads, head_dim(f, heads), bias=True, output_bias=True, rope=False)
    feed = FeedForward(f.count("intermediate_size"), gated=False, bias=True, composed=composed(f))
    layer = Layer(mixer, feed, norm_bias=True)
    has_head = any(
        "MaskedLM" in str(a) or "LMHead" in str(a) or "PreTraining" in str(a) for a in f.items("architectures") or ()
    )
    other = (
        {"head_transform": hidden * hidden + 3 * hidden}
        if has_head
        else {"pooler": hidden * hidden + hidden}
        if pooler
        else {}
    )
    table = Embedding(
        vocab=f.count("vocab_size"),
        tied=True,
        head=has_head,
        head_bias=has_head,
        learned_positions=f.count("max_position_embeddings", 512) + extra_positions,
        types=f.count("type_vocab_size", types, least=0) if types else 0,
        norm=True,
    )
    stack = Stack(hidden, ((layer, f.count("num_hidden_layers")),), causal=False, final_norm=False, norm_bias=True)
    return finish(f, Model(name, table, encoder=stack, other_parameters=tuple(other.items())))


def read_albert(f: Fields, name: str) -> Model:
    """ALBERT: BERT whose layers share ``num_hidden_groups`` sets of weights, embedded in ``embedding_size``."""
    model = _narrow(f, _encoder(f, name, types=2, extra_positions=0))
    assert model.encoder is not None
    sets = f.count("num_hidden_groups", 1) * f.count("inner_group_num", 1)
    if sets > model.encoder.depth:
        raise f.error(f"`num_hidden_groups` must be at most the number of layers, and {sets} is more")
    return replace(model, encoder=replace(model.encoder, weight_sets=sets))


def _narrow(f: Fields, model: Model) -> Model:
    """The model with tables of ``embedding_size``, a biased projection after them, and its head's transform as wide."""
    width = f.count("embedding_size", model.hidden)
    if width == model.hidden:
        return model
    other = [(name, 3 * width if name == "head_transform" else count) for name, count in model.other_parameters]
    table = replace(model.embedding, width=width, narrow=True)
    return replace(model, embedding=table, other_parameters=(*other, ("projection_bias", model.hidden)))


def read_electra(f: Fields, name: str) -> Model:
    """ELECTRA's discriminator: BERT without a pooler, embedded in ``embedding_size``."""
    return _narrow(f, _encoder(f, name, types=2, extra_positions=0, pooler=False))


def read_deberta(f: Fields, name: str) -> Model:
    """DeBERTa-v2 and v3: BERT without a pooler, with a table of relative positions that all layers share."""
    model = _encoder(f, name, types=0, extra_positions=0, pooler=False)
    rows = (
        2 * f.count("position_buckets", f.count("max_position_embeddings", 512))
        if f.flag("relative_attention", False)
        else 0
    )
    table = model.embedding
    if not f.flag("position_biased_input", True):
        table = replace(table, learned_positions=0)
    note = "the scores against relative positions are not part of the work"
    other = (("relative_positions", rows * model.hidden + 2 * model.hidden),) if rows else ()
    return replace(model, embedding=table, other_parameters=other, notes=(*model.notes, note) if rows else model.notes)


def read_clip_text(f: Fields, name: str) -> Model:
    """CLIP's text encoder: pre-norm, causal, learned positions."""
    return _text_tower(f, name, causal=True)


def read_siglip_text(f: Fields, name: str) -> Model:
    """SigLIP's text encoder: CLIP's, without the causal mask."""
    return _text_tower(f, name, causal=False)


def _text_tower(f: Fields, name: str, causal: bool) -> Model:
    # Released files leave these to the configuration class.
    f = f.with_defaults({"vocab_size": 49408 if causal else 32000, "max_position_embeddings": 77 if causal else 64})
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    mixer = SelfAttention(heads, heads, head_dim(f, heads), bias=True, output_bias=True, rope=False)
    layer = Layer(mixer, FeedForward(f.count("intermediate_size"), gated=False, bias=True), norm_bias=True)
    stack = Stack(hidden, ((layer, f.count("num_hidden_layers")),), causal=causal, norm_bias=True)
    table = Embedding(
        f.count("vocab_size"), tied=True, head=False, learned_positions=f.count("max_position_embeddings")
    )
    return finish(f, Model(name, table, encoder=stack))


def read_whisper(f: Fields, name: str) -> Model:
    """Whisper: two convolutions before the encoder, learned positions in the decoder. Keys count a bias too many."""
    hidden, rows = f.count("hidden_size"), f.count("max_target_positions", 448)
    heard = f.count("max_source_positions", 1500)
    encoder = Layer(_bart_attention(f, "encoder"), _bart_feed(f, "encoder"), norm_bias=True)
    mixer = _bart_attention(f, "decoder")
    decoder = Layer(mixer, _bart_feed(f, "decoder"), norms=3, norm_bias=True, cross=mixer)
    model = Model(
        name,
        Embedding(f.count("vocab_size"), tied=f.flag("tie_word_embeddings", True), learned_positions=rows),
        encoder=Stack(hidden, ((encoder, f.count("encoder_layers")),), causal=False, norm_bias=True),
        decoder=Stack(hidden, ((decoder, f.count("decoder_layers")),), norm_bias=True),
        other_parameters=(
            ("convolutions", hidden * (3 * f.count("num_mel_bins", 80) + 3 * hidden + 2)),
            ("encoder_positions", heard * hidden),
        ),
        padded_input=heard,
        notes=("the two convolutions before the encoder are counted as parameters but are not part of the work",),
    )
    return finish(f.with_defaults({"max_position_embeddings": rows}), model)


def read_t5(f: Fields, name: str) -> Model:
    """T5: relative position biases, no biases, RMS norms before each part and after each stack."""
    return _t5(f, name, lambda f, side, layers: [_t5_feed(f)] * layers)


def read_switch(f: Fields, name: str) -> Model:
    """Switch: T5 with one of many experts in some layers of each stack."""
    return _t5(f, name, _switch_feeds)


def _t5(f: Fields, name: str, feeds: Callable[[Fields, str, int], list[Feed]]) -> Model:
    # T5's class defaults; files of derived models omit them.
    f = f.with_defaults({"relative_attention_num_buckets": 32, "head_dim": 64})
    heads = f.count("num_attention_heads")
    attention = SelfAttention(
        heads, heads, f.count("head_dim"), rope=False, relative_buckets=f.count("relative_attention_num_buckets")
    )
    layers = (
        Fields({"num_hidden_layers": f.find("num_layers")[1]}, f.where).count("num_hidden_layers")
        if f.has("num_layers")
        else f.count("num_layers")
    )
    decoder_layers = f.count("num_decoder_layers", layers)
    hidden = f.count("hidden_size")
    encoder = runs(Layer(attention, feed, rms_norm=True) for feed in feeds(f, "encoder", layers))
    cross = replace(attention, relative_buckets=0)
    decoder = runs(
        Layer(attention, feed, norms=3, cross=cross, rms_norm=True) for feed in feeds(f, "decoder", decoder_layers)
    )
    return finish(
        f,
        Model(
            name,
            Embedding(f.count("vocab_size"), tied=f.flag("tie_word_embeddings", True)),
            encoder=Stack(hidden, encoder, causal=False, rms_norm=True),
            decoder=Stack(hidden, decoder, rms_norm=True),
        ),
    )


def _t5_feed(f: Fields) -> FeedForward:
    """``feed_forward_proj`` is an activation, with ``gated-`` before it where there are two projections in."""
    gated = f.flag("is_gated_act", f.text("feed_forward_proj", "relu").startswith("gated"))
    return FeedForward(f.count("intermediate_size"), gated=gated)


def _switch_feeds(f: Fields, side: str, layers: int) -> list[Feed]:
    """Every ``sparse_step``-th layer, counted so that the second of two has the experts."""
    dense = _t5_feed(f)
    sparse_layers = f.count(f"num_sparse_{side}_layers", 3, least=0)
    step = f.count(f"{side}_sparse_step", max(1, layers // sparse_layers) if sparse_layers else layers + 1)
    part: Experts = experts(f.with_defaults({"num_experts_per_tok": 1}), Style(gated=dense.gated))
    part = replace(part, router_bias=f.flag("router_bias", False))
    return [part if i % step == 1 or step == 1 else dense for i in range(layers)]


def read_bart(f: Fields, name: str, final_norm: bool = False) -> Model:
    """BART: learned positions (two rows more) and an embedding norm on both sides, norms after each part."""
    hidden, positions = f.count("hidden_size"), f.count("max_position_embeddings") + 2
    encoder = Layer(_bart_attention(f, "encoder"), _bart_feed(f, "encoder"), norm_bias=True)
    mixer = _bart_attention(f, "decoder")
    decoder = Layer(mixer, _bart_feed(f, "decoder"), norms=3, norm_bias=True, cross=mixer)
    return finish(
        f,
        Model(
            name,
            Embedding(
                f.count("vocab_size"),
                tied=f.flag("tie_word_embeddings", True),
                learned_positions=2 * positions,
                norm=True,
            ),
            encoder=Stack(
                hidden, ((encoder, f.count("encoder_layers")),), causal=False, final_norm=final_norm, norm_bias=True
            ),
            decoder=Stack(hidden, ((decoder, f.count("decoder_layers")),), final_norm=final_norm, norm_bias=True),
            other_parameters=(("decoder_embedding_norm", 2 * hidden),),
        ),
    )


def read_mbart(f: Fields, name: str) -> Model:
    """mBART: BART with a norm after each stack."""
    return read_bart(f, name, final_norm=True)


def read_pegasus(f: Fields, name: str) -> Model:
    """Pegasus, M2M-100 and NLLB: BART with norms before each part and after each stack, none after its embeddings, and
    positions that are computed, not learned.
    """
    model = read_mbart(f, name)
    table = replace(model.embedding, learned_positions=0, norm=False)
    return replace(model, embedding=table, other_parameters=())


def _bart_attention(f: Fields, side: str) -> SelfAttention:
    heads = f.count(f"{side}_attention_heads")
    return SelfAttention(heads, heads, head_dim(f, heads), bias=True, output_bias=True, rope=False)


def _bart_feed(f: Fields, side: str) -> FeedForward:
    return FeedForward(f.count(f"{side}_ffn_dim"), gated=False, bias=True)


ENCODERS: dict[str, Callable[[Fields, str], Model]] = {
    "bert": read_bert,
    "albert": read_albert,
    "electra": read_electra,
    "deberta_v2": read_deberta,
    "whisper": read_whisper,
    "clip_text_model": read_clip_text,
    "clip": read_clip_text,
    "siglip_text_model": read_siglip_text,
    "siglip": read_siglip_text,
    "vit": read_classifier,
    "deit": read_classifier,
    "roberta": read_roberta,
    "camembert": read_roberta,
    "xlm_roberta": read_roberta,
    "distilbert": read_distilbert,
    "t5": read_t5,
    "mt5": read_t5,
    "umt5": read_t5,
    "switch_transformers": read_switch,
    "bart": read_bart,
    "mbart": read_mbart,
    "pegasus": read_pegasus,
    "m2m_100": read_pegasus,
}
