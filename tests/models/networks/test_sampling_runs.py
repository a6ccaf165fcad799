"""A sampling run is its prompt's encoders, its denoising steps and its decoder; any input size can be given."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.catalog import find_network, network_entries
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape, matrix_flop
from ridgepoint.tasks.build import build

SAMPLERS = [entry.name for entry in network_entries() if entry.sampling and entry.domain in ("diffusion", "video")]


def network(name: str) -> Network:
    found = find_network(name)
    assert found is not None
    return found


def macs(name: str, **sizes: float) -> float:
    return float(play(network(name), Tape(1.0), sizes).macs)


def run_macs(name: str, task: rp.Sample) -> float:
    given = rp.estimate(network(name), on="h100-sxm", task=task).scenario
    return float(matrix_flop(build(given.model, given.machine, given.task, given.plan).device)) / 2.0


def test_guidance_doubles_the_batch_of_every_step_and_of_the_prompt() -> None:
    # Wrong: unconditional passes are not counted, or the decoder runs for them too.
    expected = 50.0 * 2.0 * macs("sd-1.5") + 2.0 * macs("clip-l-text") + macs("sd-vae-decoder", image_px=512.0)
    assert run_macs("sd-1.5", rp.Sample(batch=1)) == pytest.approx(expected, rel=1e-9)


def test_a_decoder_works_at_the_size_of_the_run() -> None:
    # Wrong: SDXL's pictures of 1024 pixels are decoded at the autoencoder's own default of 512.
    text = macs("clip-l-text") + macs("openclip-bigg-text")
    expected = 2.0 * macs("sdxl-base") + 2.0 * text + macs("sd-vae-decoder", image_px=1024.0)
    assert run_macs("sdxl-base", rp.Sample(steps=1)) == pytest.approx(expected, rel=1e-9)


def test_distilled_guidance_and_prompt_lengths_of_the_pipeline() -> None:
    # Wrong: FLUX.1 schnell's prompt of 256 tokens is encoded at T5's default of 512, or its batch is doubled.
    text = macs("clip-l-text", tokens=77.0) + macs("t5-xxl-encoder", tokens=256.0)
    expected = 4.0 * macs("flux.1-schnell") + text + macs("flux-vae-decoder", image_px=1024.0)
    assert run_macs("flux.1-schnell", rp.Sample()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_parts_of_a_pipeline_are_networks_that_exist(name: str) -> None:
    # Wrong: a misspelt encoder or decoder, found only when somebody samples.
    net = network(name)
    for part in (*net.option("conditioning", ()), *net.option("decoders", ())):
        assert find_network(part) is not None
    tokens = net.option("conditioning_tokens")
    assert tokens is None or len(tokens) == len(net.option("conditioning"))


def test_more_frames_and_larger_pictures_take_longer() -> None:
    # Wrong: frames or image_px of the task do not reach the network.
    short, long = rp.Sample(frames=17), rp.Sample(frames=81)
    assert run_macs("wan-2.1-1.3b", short) < 0.3 * run_macs("wan-2.1-1.3b", long)
    assert run_macs("sana-0.6b", rp.Sample(image_px=512)) < run_macs("sana-0.6b", rp.Sample(image_px=1024))


def test_inputs_give_any_size_one_value_or_a_sweep() -> None:
    # Wrong: a size is ignored, or a sweep over it differs from its points.
    swept = rp.estimate(
        "gcn-arxiv", on="h100-sxm", task=rp.Forward(inputs={"nodes": np.array([1e5, 1e6]), "edges": 1e7})
    )
    single = rp.estimate("gcn-arxiv", on="h100-sxm", task=rp.Forward(inputs={"nodes": 1e6, "edges": 1e7}))
    assert swept.shape == (2,)
    assert swept.time_s[1] == pytest.approx(single.time_s)
    assert swept.time_s[0] < swept.time_s[1]


def test_a_part_of_a_sweep_has_its_part_of_the_inputs() -> None:
    # Wrong: inputs keep their full length in a chunk of a large sweep.
    vectors = np.array([1e6, 2e6, 3e6])
    task = rp.Forward(batch=np.array([[1.0], [2.0]]), inputs={"vectors": vectors, "dim": 64.0})
    part = rp.estimate("flat-sift1m", on="h100-sxm", task=task).scenario.at(slice(1, 5))
    assert isinstance(part.task, rp.Forward)
    assert list(np.atleast_1d(part.task.inputs["vectors"])) == [2e6, 3e6, 1e6, 2e6]
    assert (part.task.inputs["dim"], list(np.atleast_1d(part.task.batch))) == (64.0, [1.0, 1.0, 2.0, 2.0])


@pytest.mark.parametrize(
    "inputs", [{"vectors": 0.0}, {"vectors": "many"}, {"vectors": float("nan")}, {"batch": 2.0}, {"nodes": 3.0}]
)
def test_inputs_that_mean_nothing_are_refused(inputs: dict[str, float]) -> None:
    # Wrong: a size that the network does not have, or that is no size, changes nothing in silence.
    with pytest.raises(RidgepointError) as error:
        rp.estimate("flat-sift1m", on="h100-sxm", task=rp.Forward(inputs=inputs))
    assert error.value.kind == "bad_size"


def test_a_transformer_has_no_inputs_of_its_own() -> None:
    # Wrong: inputs given to a language model are dropped in silence.
    with pytest.raises(RidgepointError):
        rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Forward(inputs={"nodes": 3.0}))


def test_a_dit_block_counted_by_hand() -> None:
    # Wrong: a projection of DiT-XL/2 is missing. 256 tokens of 1152: 12·d² per token, 2·L·d per token for attention; 6·d² once.
    width, tokens = 1152.0, 256.0
    block = tokens * 12.0 * width**2 + 2.0 * tokens**2 * width + 6.0 * width**2
    ends = tokens * 16.0 * width + tokens * 32.0 * width + 2.0 * width**2 + 256.0 * width + width**2
    assert macs("dit-xl-2") == pytest.approx(28.0 * block + ends, rel=1e-9)


def test_an_mmdit_pass_counted_by_hand() -> None:
    # Wrong: text and picture do not share one attention. 24 layers of 1536, 4096 + 333 tokens, text ends in the last layer.
    width, picture, text = 1536.0, 4096.0, 333.0
    layer = (picture + text) * 12.0 * width**2 + 2.0 * (picture + text) ** 2 * width + 12.0 * width**2
    last = layer - text * 9.0 * width**2 - 4.0 * width**2
    ends = 2.0 * picture * 64.0 * width + text * 4096.0 * width + 2.0 * width**2
    once = 256.0 * width + 2048.0 * width + 2.0 * width**2
    assert macs("sd3-medium") == pytest.approx(23.0 * layer + last + ends + once, rel=1e-9)


def test_a_convolutional_decoder_grows_with_the_picture() -> None:
    # Wrong: a level does not double its size. All but the middle's attention grows fourfold with twice the side.
    small, large = macs("sd-vae-decoder", image_px=256.0), macs("sd-vae-decoder", image_px=512.0)
    attention = 2.0 * 512.0 * ((64.0 * 64.0) ** 2 - 4.0 * (32.0 * 32.0) ** 2)
    assert large - attention == pytest.approx(4.0 * small, rel=1e-9)
