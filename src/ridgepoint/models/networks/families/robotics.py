"""Vision-language-action policies: vision towers, a projector, a language model, and a head that makes actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgepoint.models.networks.families.text_encoders import layer
from ridgepoint.models.networks.families.tokens import feed_forward, mlp, transformer_layer, vision_tower
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num


def _tower(tape: Tape, options: dict[str, Any], images: Num, image_px: Num, name: str) -> Rows:
    """One tower over all pictures; position embeddings, layer scales and a pooling head are parameters alone."""
    width = options["width"]
    x = vision_tower(
        tape, width, options["depth"], options["heads"], options["feed"], options["patch"], image_px, images, name=name
    )
    with tape.scope(name):
        tape.count("positions", (options["positions"] + options.get("extra", 0)) * width)
        tape.count("layer_scale", options["depth"] * 2.0 * width if options.get("layer_scale") else 0.0)
        tape.count("pooling", options.get("pooling", 0))
        return tape.norm(x, "layer", name="norm_out")


def _perceive(tape: Tape, net: Network, sizes: Sizes) -> Rows:
    """The language model's input: projected pictures and the instruction."""
    images = sizes["images"]
    towers = [dict(options) for options in net.option("towers")]
    outputs = [_tower(tape, o, images, sizes["image_px"], f"vision{i}") for i, o in enumerate(towers)]
    patches = replace(outputs[0], channels=sum(float(o["width"]) for o in towers))
    seen = mlp(tape, patches, *net.option("projector"), name="projector")
    return Rows(tape.batch, images * seen.length + sizes["tokens"], seen.channels)


@family("vla")
def vla(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Vision-language-action policies: one step of control.

    OpenVLA (Kim et al. 2024) decodes ``action_tokens`` one after the other; π0 (Black et al. 2024) integrates a flow with a
    second, narrower set of weights that attends to the prefix; CogACT (Li et al. 2024) denoises with a transformer of its
    own. Inputs: ``images``, ``image_px``, ``tokens`` of the instruction, ``steps`` of the head. Options: ``towers``,
    ``projector``, ``llm`` (options of ``text_encoder``), ``head`` (``tokens``, ``expert``, ``diffusion``) and its sizes.
    """
    llm = Network(name="llm", family="text_encoder", config=net.option("llm"))
    x = _perceive(tape, net, sizes)
    width = llm.option("width")
    with tape.scope("llm"):
        tape.gather(tape.batch * sizes["tokens"], width, "embedding", llm.option("vocabulary") * float(width))
        x = tape.repeat(llm.option("depth"), lambda y: layer(tape, llm, y), x)
        tape.norm(x, "rms", name="norm_out")
        tape.count("vocabulary", 0.0 if llm.option("tied") else llm.option("vocabulary") * width)
    _HEADS[net.option("head")](tape, net, llm, x, sizes)


def _tokens(tape: Tape, net: Network, llm: Network, prefix: Rows, sizes: Sizes) -> None:
    """Autoregressive decoding with the weights that the prefill used: they are not counted again."""
    width, heads = llm.option("width"), llm.option("heads")
    kv = llm.option("kv_heads", 0) or heads
    head_dim = llm.option("head_dim", 0) or width // heads

    def block(y: Rows) -> Rows:
        tape.norm(y, "rms", affine=False, name="norm1")
        tape.linear(y, (heads + 2 * kv) * head_dim, False, "qkv", counted=False)
        tape.attend(y, prefix, heads, head_dim, kv)
        tape.linear(replace(y, channels=float(heads * head_dim)), width, False, "output", counted=False)
        tape.norm(y, "rms", affine=False, name="norm2")
        up = tape.linear(y, 2 * llm.option("feed"), False, "up", counted=False)
        tape.multiply(tape.activate(replace(up, channels=float(llm.option("feed"))), special=1.0))
        return tape.linear(replace(up, channels=float(llm.option("feed"))), width, False, "down", counted=False)

    def token(y: Rows) -> Rows:
        y = tape.again(float(llm.option("depth")), block, y)
        tape.linear(y, llm.option("vocabulary"), False, "vocabulary", counted=False)
        return y

    with tape.scope("actions"):
        tape.again(sizes["steps"], token, tape.rows(1.0, width))


def _expert(tape: Tape, net: Network, llm: Network, prefix: Rows, sizes: Sizes) -> None:
    """Flow matching: every step runs the action expert over the chunk of actions, keys and values of the prefix kept."""
    width, heads, actions = net.option("expert_width"), llm.option("heads"), net.option("action_dim")
    head_dim, kv = llm.option("head_dim"), llm.option("kv_heads")
    length = net.option("horizon") + 1.0

    def block(y: Rows) -> Rows:
        with tape.scope("block"):
            tape.linear(tape.norm(y, "rms", name="norm1"), (heads + 2 * kv) * head_dim, False, "qkv")
            tape.attend(y, replace(prefix, length=prefix.length + y.length), heads, head_dim, kv)
            tape.linear(replace(y, channels=float(heads * head_dim)), width, False, "output")
            y = tape.add(y)
            y = tape.norm(y, "rms", name="norm2")
            return tape.add(feed_forward(tape, y, net.option("expert_feed"), gated=True, bias=False))

    def step(y: Rows) -> Rows:
        chunk = replace(y, length=float(net.option("horizon")))
        tape.linear(replace(chunk, channels=float(actions)), width, name="action_in")
        tape.linear(Rows(y.batch, 1.0, float(actions)), width, name="state_in")
        mlp(tape, replace(chunk, channels=2.0 * width), width, width, name="action_time")
        y = tape.repeat(llm.option("depth"), block, y)
        tape.linear(tape.norm(chunk, "rms"), actions, name="action_out")
        return y

    with tape.scope("expert"):
        tape.again(sizes["steps"], step, tape.rows(length, width))


def _diffusion(tape: Tape, net: Network, llm: Network, prefix: Rows, sizes: Sizes) -> None:
    """Denoising with a transformer over the actions and one feature of the language model; guidance doubles the batch."""
    width, heads, actions = net.option("expert_width"), net.option("expert_heads"), net.option("action_dim")
    doubled = tape.batch * net.option("guidance", 2.0)
    x = Rows(doubled, net.option("horizon") + 1.0, float(width))

    def step(y: Rows) -> Rows:
        tape.linear(replace(y, channels=float(actions)), width, name="action_in")
        mlp(tape, Rows(doubled, 1.0, 256.0), width, width, name="time")
        y = tape.repeat(net.option("expert_depth"), lambda z: transformer_layer(tape, z, heads, 4 * width), y)
        tape.linear(tape.norm(y, "layer", affine=False), actions, name="action_out")
        return y

    with tape.scope("denoiser"):
        tape.linear(Rows(doubled, 1.0, float(llm.option("width"))), width, name="condition")
        tape.count("positions", (net.option("horizon") + 1.0) * width)
        tape.again(sizes["steps"], step, x)


_HEADS = {"tokens": _tokens, "expert": _expert, "diffusion": _diffusion}
