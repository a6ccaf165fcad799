"""Interatomic potentials: SchNet's continuous filters and E(3)-equivariant tensor products (NequIP, SevenNet, MACE)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.families.graphs import collect, spread
from ridgepoint.models.networks.families.tokens import mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.ops import Stream

Irreps = dict[int, float]
"""Channels by degree: a channel of degree l has 2l + 1 components."""
Path = tuple[int, int, int]


def width_of(irreps: Irreps) -> float:
    """Numbers per atom or edge.

    >>> width_of({0: 128.0, 1: 64.0, 2: 32.0})
    480.0
    """
    return sum((2.0 * degree + 1.0) * channels for degree, channels in irreps.items())


def paths(inputs: Irreps, filters: int, outputs: int) -> Iterator[Path]:
    """Couplings (l1, l2, l3) with |l1 − l2| ≤ l3 ≤ l1 + l2 of features with harmonics up to ``filters``.

    >>> list(paths({0: 1.0, 1: 1.0}, 1, 0))
    [(0, 0, 0), (1, 1, 0)]
    """
    for first in inputs:
        for second in range(filters + 1):
            for third in range(abs(first - second), min(first + second, outputs) + 1):
                yield first, second, third


def coupling_flop(path: Path) -> float:
    """Multiplications and additions of one channel's product along a path: each non-zero coefficient multiplies two
    components, is weighted and added. A real Clebsch–Gordan block has about (2·min(l) + 1)·(2·mid(l) + 1) non-zeros: for
    two components the third is fixed up to its sign.

    >>> coupling_flop((1, 1, 0)), coupling_flop((0, 2, 2))
    (9.0, 15.0)
    """
    small, middle, _ = sorted(path)
    return 3.0 * (2.0 * small + 1.0) * (2.0 * middle + 1.0)


def tensor_product(
    tape: Tape,
    edges: Rows,
    inputs: Irreps,
    filters: int,
    outputs: int,
    shared: float = 0.0,
    name: str = "tensor_product",
) -> Irreps:
    """Features of every edge times its harmonics, weighted per path and channel; the outputs' channels by degree.

    One fused kernel: it reads the sender's features, the harmonics and the weights, and writes the products. ``shared`` > 0:
    the right side has that many channels too, met one by one, and no weights of its own.
    """
    result: Irreps = {}
    weights = flop = 0.0
    for path in paths(inputs, filters, outputs):
        channels = inputs[path[0]]
        result[path[2]] = result.get(path[2], 0.0) + channels
        weights += 0.0 if shared else channels
        flop += channels * coupling_flop(path)
    size = FORMATS[tape.acts].bytes
    read = width_of(inputs) + (filters + 1.0) ** 2 * max(shared, 1.0) + weights
    tape.record(
        Stream(
            read_bytes=edges.rows * read * size,
            write_bytes=edges.rows * width_of(result) * size,
            flop=edges.rows * flop,
            saved_bytes=edges.rows * read * size,
            label=tape.label(name),
        )
    )
    return result


def irreps_linear(
    tape: Tape, x: Rows, inputs: Irreps, outputs: Irreps, name: str = "linear", species: float = 1.0
) -> None:
    """Mixing of channels, degree by degree; ``species`` sets of weights, one used for each atom."""
    with tape.scope(name):
        for degree, channels in outputs.items():
            if degree in inputs:
                rows = replace(x, length=x.length * (2.0 * degree + 1.0), channels=inputs[degree])
                tape.linear(rows, channels, False, f"degree{degree}", counted=False)
                tape.count(f"degree{degree}", species * inputs[degree] * channels)


def edge_geometry(tape: Tape, edges: Rows, filters: int, radial: int) -> None:
    """Distances, harmonics and radial functions of every edge."""
    collect(tape, edges, edges.length, 6.0, "positions")
    tape.activate(replace(edges, channels=(filters + 1.0) ** 2), flop=4.0, name="harmonics")
    tape.activate(replace(edges, channels=float(radial)), special=1.0, name="radial")


def _irreps(option: tuple[float, ...]) -> Irreps:
    return {degree: float(channels) for degree, channels in enumerate(option) if channels}


@family("equivariant")
def equivariant(tape: Tape, net: Network, sizes: Sizes) -> None:
    """NequIP (Batzner et al. 2022) and SevenNet (Park et al. 2024): messages are tensor products of the sender's features
    with the edge's spherical harmonics, weighted by a network of the distance; then linear maps and a gate.

    Inputs: ``atoms``, ``edges`` (directed pairs within the cutoff). Options: ``layers``: channels by degree of every layer's
    output, first the embedding's; ``filters`` largest degree of the harmonics, ``radial`` functions, ``radial_widths``,
    ``species``, ``self`` connection (``linear``, or ``species``: weights per species), ``readout`` widths.
    """
    layers = [_irreps(option) for option in net.option("layers")]
    filters, radial, species = net.option("filters"), net.option("radial", 8), net.option("species")
    atoms, edges = tape.rows(sizes["atoms"], layers[0][0]), tape.rows(sizes["edges"], 1.0)
    edge_geometry(tape, edges, filters, radial)
    tape.count("radial", radial)
    tape.gather(atoms.rows, atoms.channels, "species", species * layers[0][0])
    own = float(species) if net.option("self", "linear") == "species" else 1.0
    for index, (before, after) in enumerate(pairwise(layers)):
        gates = sum(channels for degree, channels in after.items() if degree)
        gated = {**after, 0: after.get(0, 0.0) + gates}
        with tape.scope(f"layer{index}"):
            irreps_linear(tape, atoms, before, gated, "self", own)
            irreps_linear(tape, atoms, before, before, "before")
            messages = _messages(tape, net, edges, atoms, before, max(after))
            irreps_linear(tape, atoms, messages, gated, "after")
            tape.activate(replace(atoms, channels=width_of(gated)), special=1.0, name="gate")
    mlp(tape, replace(atoms, channels=layers[-1][0]), *net.option("readout", (64,)), 1, bias=False, name="readout")


def _messages(tape: Tape, net: Network, edges: Rows, atoms: Rows, before: Irreps, degree: int) -> Irreps:
    """Gather, weights from the distance, product, sum over a node's edges."""
    filters = net.option("filters")
    weights = sum(before[path[0]] for path in paths(before, filters, degree))
    collect(tape, replace(atoms, channels=width_of(before)), edges.length)
    radial = replace(edges, channels=float(net.option("radial", 8)))
    mlp(tape, radial, *net.option("radial_widths", (64, 64)), weights, bias=False, name="weights")
    result = tensor_product(tape, edges, before, filters, degree)
    spread(tape, replace(edges, channels=width_of(result)), atoms.length)
    return result


@family("mace")
def mace(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MACE (Batatia et al. 2022): one tensor product per edge, then products of up to ``correlation`` atoms' features at
    each node, which replace further layers.

    Inputs: ``atoms``, ``edges``. Options: ``channels``, ``degrees`` of messages (0: scalars, 1: vectors too), ``filters``,
    ``correlation``, ``layers``, ``species``, ``radial``, ``radial_widths``, ``contractions``: for each degree the numbers of
    symmetric products of 1, 2 … atoms, ``contraction_terms``: their non-zero terms.
    """
    k, filters, species = float(net.option("channels")), net.option("filters", 3), net.option("species")
    hidden: Irreps = dict.fromkeys(range(net.option("degrees") + 1), k)
    atoms, edges = tape.rows(sizes["atoms"], k), tape.rows(sizes["edges"], 1.0)
    edge_geometry(tape, edges, filters, net.option("radial", 10))
    tape.gather(atoms.rows, k, "species", species * k)
    layers = net.option("layers", 2)
    for index in range(layers):
        last = index + 1 == layers
        before: Irreps = {0: k} if index == 0 else hidden
        after: Irreps = {0: k} if last else hidden
        with tape.scope(f"layer{index}"):
            _mace_layer(tape, net, atoms, edges, before, after)
            if last:
                mlp(tape, atoms, 16, 1, bias=False, name="readout")
            else:
                tape.linear(atoms, 1, False, "readout")


def _mace_layer(tape: Tape, net: Network, atoms: Rows, edges: Rows, before: Irreps, after: Irreps) -> None:
    k, filters, species = float(net.option("channels")), net.option("filters", 3), net.option("species")
    irreps_linear(tape, atoms, before, before, "up")
    collect(tape, replace(atoms, channels=width_of(before)), edges.length)
    kept = [path for path in paths(before, filters, filters) if sum(path) % 2 == 0]
    radial = replace(edges, channels=float(net.option("radial", 10)))
    mlp(tape, radial, *net.option("radial_widths", (64, 64, 64)), len(kept) * k, bias=False, name="weights")
    products: Irreps = {}
    for path in kept:
        products[path[2]] = products.get(path[2], 0.0) + k
    _mace_product(tape, edges, before, products, kept, k)
    spread(tape, replace(edges, channels=width_of(products)), atoms.length)
    every: Irreps = dict.fromkeys(range(filters + 1), k)
    irreps_linear(tape, atoms, products, every, "down")
    irreps_linear(tape, atoms, before, after, "skip", float(species))
    _contract(tape, net, atoms, every, after)
    irreps_linear(tape, atoms, after, after, "mix")


def _mace_product(tape: Tape, edges: Rows, before: Irreps, after: Irreps, kept: list[Path], k: float) -> None:
    size = FORMATS[tape.acts].bytes
    read = width_of(before) + len(kept) * k + 16.0
    flop = sum(k * coupling_flop(path) for path in kept)
    tape.record(
        Stream(
            read_bytes=edges.rows * read * size,
            write_bytes=edges.rows * width_of(after) * size,
            flop=edges.rows * flop,
            label=tape.label("tensor_product"),
        )
    )


def _contract(tape: Tape, net: Network, atoms: Rows, every: Irreps, after: Irreps) -> None:
    """Symmetric contraction of an atom's features with themselves: weights per species, channel and product."""
    k, size = float(net.option("channels")), FORMATS[tape.acts].bytes
    for degree in after:
        products, terms = net.option("contractions")[degree], net.option("contraction_terms")[degree]
        tape.count("contraction", net.option("species") * k * sum(products))
        tape.record(
            Stream(
                read_bytes=atoms.rows * (width_of(every) + k * sum(products)) * size,
                write_bytes=atoms.rows * (2.0 * degree + 1.0) * k * size,
                flop=atoms.rows * k * sum(2.0 * (order + 1.0) * count for order, count in enumerate(terms)),
                label=tape.label(f"contraction{degree}"),
            )
        )


@family("allegro")
def allegro(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Allegro (Musaelian et al. 2023): every edge keeps scalars and tensors of its own; nothing passes beyond the cutoff.

    A layer weighs the harmonics of an atom's edges by their scalars and sums them, multiplies each edge's tensors with its
    atom's sum (channel by channel), mixes channels, and updates the scalars from the product's invariants.

    Inputs: ``atoms``, ``edges``. Options: ``layers``, ``degree`` largest of tensors and harmonics, ``channels`` of tensors,
    ``scalars``, ``pair`` widths of the first network, ``latent`` widths of a layer's, ``readout`` widths, ``species``,
    ``radial``.
    """
    degree, channels, scalars = net.option("degree"), float(net.option("channels")), float(net.option("scalars"))
    tensors: Irreps = dict.fromkeys(range(degree + 1), channels)
    edges, atoms = tape.rows(sizes["edges"], scalars), sizes["atoms"]
    edge_geometry(tape, edges, degree, net.option("radial", 8))
    features = 2.0 * net.option("species") + net.option("radial", 8)
    mlp(tape, replace(edges, channels=features), *net.option("pair"), scalars, bias=False, name="pair")
    for index in range(net.option("layers")):
        with tape.scope(f"layer{index}"):
            tape.linear(edges, channels * (degree + 1.0), False, "environment")
            harmonics = replace(edges, channels=channels * (degree + 1.0) ** 2)
            around = spread(tape, tape.scale(harmonics, "weigh"), atoms)
            collect(tape, around, edges.length)
            products = tensor_product(tape, edges, tensors, degree, degree, shared=channels)
            irreps_linear(tape, edges, products, tensors, "mix")
            joined = replace(edges, channels=scalars + products[0])
            tape.add(mlp(tape, joined, *net.option("latent"), scalars, bias=False, name="latent"))
    mlp(tape, edges, *net.option("readout"), 1, bias=False, name="readout")
    spread(tape, replace(edges, channels=1.0), atoms, "energies")


@family("schnet")
def schnet(tape: Tape, net: Network, sizes: Sizes) -> None:
    """SchNet (Schütt et al. 2017): messages filtered by a network of the distance.

    Inputs: ``atoms``, ``edges``. Options: ``width``, ``filters``, ``interactions``, ``gaussians``, ``species``.
    """
    width, filters = net.option("width", 128), net.option("filters", 128)
    atoms, edges = tape.rows(sizes["atoms"], width), tape.rows(sizes["edges"], net.option("gaussians", 50))
    tape.gather(atoms.rows, width, "species", net.option("species", 100) * float(width))
    tape.activate(edges, special=1.0, name="gaussians")

    def interaction(x: Rows) -> Rows:
        weights = mlp(tape, edges, filters, filters, name="filter")
        messages = collect(tape, tape.linear(x, filters, False, "before"), edges.length)
        spread(tape, tape.multiply(messages), atoms.length)
        tape.multiply(weights)
        return tape.add(mlp(tape, replace(x, channels=float(filters)), width, width, name="after"))

    x = tape.repeat(net.option("interactions", 6), interaction, atoms)
    mlp(tape, x, width // 2, 1, name="readout")
