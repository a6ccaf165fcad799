"""Graph networks: message passing over nodes and edges, graph transformers, mesh simulators."""

from __future__ import annotations

from dataclasses import replace

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.families.tokens import attention, feed_forward, mlp
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.shapes import Rows
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream


def collect(tape: Tape, nodes: Rows, edges: Num, width: Num | None = None, name: str = "gather") -> Rows:
    """The ends' values for every edge: random rows."""
    channels = nodes.channels if width is None else width
    return replace(tape.gather(nodes.batch * edges, channels, name), batch=nodes.batch, length=edges)


def spread(tape: Tape, edges: Rows, nodes: Num, name: str = "scatter") -> Rows:
    """Sums the edges' values at their target nodes: every edge is read, every node written, targets read for the addition."""
    width = FORMATS[tape.acts].bytes
    moved = edges.values * width
    target = edges.batch * nodes * edges.channels * width
    op = Stream(
        read_bytes=moved,
        write_bytes=target,
        flop=edges.values,
        pattern="gather",
        saved_bytes=0.0,
        label=tape.label(name),
    )
    tape.record(op)
    return replace(edges, length=nodes)


def aggregate(tape: Tape, x: Rows, edges: Num, name: str = "aggregate") -> Rows:
    """Sparse product of the adjacency with the features: one gathered row and one weight per edge, one sum per node."""
    with tape.scope(name):
        return spread(tape, collect(tape, x, edges), x.length)


@family("graph_conv")
def graph_conv(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Message-passing layers: GCN (Kipf and Welling 2017), GraphSAGE (Hamilton et al. 2017), GAT (Veličković et al. 2018),
    GIN (Xu et al. 2019).

    Inputs: ``nodes``, ``edges`` (directed, self-loops of GCN and GAT are added). Options: ``kind``, ``features``,
    ``widths`` of the layers, ``heads`` (GAT, per layer), ``batch_norm``, ``skip`` (a linear beside each GAT layer),
    ``atoms`` and ``bonds`` (rows of the embedding tables of molecules), ``readout`` (classes of the whole graph).
    """
    nodes, edges = sizes["nodes"], sizes["edges"]
    x = tape.rows(nodes, net.option("features"))
    if net.option("atoms"):
        tape.gather(
            tape.batch * nodes * 9.0, net.option("features"), "atoms", net.option("atoms") * net.option("features")
        )
    widths = net.option("widths")
    for index, width in enumerate(widths):
        with tape.scope(f"layer{index}"):
            x = _LAYERS[net.option("kind")](tape, net, x, edges, width, index)
            if net.option("batch_norm", False) and (index + 1 < len(widths) or net.option("readout")):
                tape.norm(x)
            if index + 1 < len(widths):
                x = tape.activate(x)
    if net.option("readout"):
        tape.linear(tape.global_pool(x), net.option("readout"), name="readout")


def _bonds(tape: Tape, net: Network, edges: Num, width: Num) -> None:
    if net.option("bonds"):
        tape.gather(tape.batch * edges * 3.0, width, "bonds", net.option("bonds") * float(width))


def _gcn(tape: Tape, net: Network, x: Rows, edges: Num, width: int, index: int) -> Rows:
    y = tape.linear(x, width)
    if net.option("bonds"):
        _bonds(tape, net, edges, width)
        tape.count("root", width)
        tape.activate(replace(y, length=edges), name="message")
    return aggregate(tape, y, edges + x.length)


def _sage(tape: Tape, net: Network, x: Rows, edges: Num, width: int, index: int) -> Rows:
    tape.linear(aggregate(tape, x, edges), width, name="neighbours")
    return tape.add(tape.linear(x, width, False, "self"))


def _gin(tape: Tape, net: Network, x: Rows, edges: Num, width: int, index: int) -> Rows:
    _bonds(tape, net, edges, x.channels)
    tape.activate(replace(x, length=edges), name="message")
    y = aggregate(tape, x, edges)
    tape.count("epsilon", 1.0)
    y = tape.activate(tape.norm(tape.linear(tape.add(y), 2 * width, name="up"), name="inner_norm"))
    return tape.linear(y, width, name="down")


def _gat(tape: Tape, net: Network, x: Rows, edges: Num, width: int, index: int) -> Rows:
    heads = net.option("heads")[index]
    joined = index + 1 < len(net.option("widths"))
    all_edges = edges + x.length
    out = width * (heads if joined else 1)
    y = tape.linear(x, heads * width, False, "project")
    tape.count("attention", 2.0 * heads * width)
    tape.linear(Rows(y.batch, y.length * heads, float(width)), 2, False, "scores", counted=False)
    scores = collect(tape, replace(y, channels=2.0 * heads), all_edges, name="gather_scores")
    tape.activate(scores, special=1.0, name="leaky_exp")
    spread(tape, replace(scores, channels=float(heads)), x.length, "sums")
    tape.count("bias", out)
    y = aggregate(tape, y, all_edges)
    if net.option("skip"):
        tape.add(tape.linear(x, out, name="skip"))
    return replace(y, channels=float(out))


_LAYERS = {"gcn": _gcn, "sage": _sage, "gin": _gin, "gat": _gat}


@family("graphormer")
def graphormer(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Graphormer (Ying et al. 2021): a transformer over all nodes with biases from distances and edges.

    Inputs: ``nodes``. Options: ``depth``, ``width``, ``heads``, ``feed``, ``atoms``, ``bonds``, ``distances``, ``degrees``,
    ``hops`` (embedding tables).
    """
    width, heads, nodes = net.option("width"), net.option("heads"), sizes["nodes"] + 1.0
    with tape.scope("embedding"):
        tape.gather(
            tape.batch * nodes * 11.0, width, "nodes", (net.option("atoms") + 2 * net.option("degrees")) * width
        )
        pairs = tape.batch * nodes * nodes
        hops = net.option("hops")
        tables = (net.option("bonds") + net.option("distances")) * heads
        tape.gather(pairs * (1.0 + 3.0 * hops), heads, "pairs", tables)
        tape.matmul(pairs / hops, float(heads), float(heads), hops * hops, "edge_bias")
        tape.count("edge_bias", net.option("edge_distances", 128) * heads * heads)
        tape.count("graph_token", width + heads)

    def layer(x: Rows) -> Rows:
        x = tape.add(attention(tape, tape.norm(x, "layer", name="norm1"), heads))
        return tape.add(feed_forward(tape, tape.norm(x, "layer", name="norm2"), net.option("feed", width)))

    x = tape.repeat(net.option("depth"), layer, tape.rows(nodes, width))
    tape.linear(Rows(x.batch, 1.0, tape.norm(x, "layer").channels), 1, name="readout")


def message_mlp(tape: Tape, x: Rows, inputs: Num, width: int, hidden: int, name: str, norm: bool = True) -> Rows:
    """A network on every row: ``hidden`` inner layers, then a norm."""
    y = mlp(tape, replace(x, channels=inputs), *([width] * (hidden + 1)), name=name)
    return tape.norm(y, "layer", name=f"{name}_norm") if norm else y


@family("mesh_graph_net")
def mesh_graph_net(tape: Tape, net: Network, sizes: Sizes) -> None:
    """MeshGraphNets (Pfaff et al. 2021): encode nodes and edges, pass messages, decode nodes.

    Inputs: ``nodes``, ``edges`` (directed). Options: ``width``, ``steps``, ``hidden`` layers of each network,
    ``node_features``, ``edge_features``, ``outputs``.
    """
    width, hidden = net.option("width", 128), net.option("hidden", 2)
    nodes = tape.rows(sizes["nodes"], net.option("node_features"))
    edges = tape.rows(sizes["edges"], net.option("edge_features"))
    with tape.scope("encoder"):
        x = message_mlp(tape, nodes, nodes.channels, width, hidden, "nodes")
        e = message_mlp(tape, edges, edges.channels, width, hidden, "edges")

    def step(y: Rows) -> Rows:
        return message_step(tape, y, e, width, hidden)

    with tape.scope("processor"):
        x = tape.repeat(net.option("steps", 15), step, x)
    mlp(tape, x, *([width] * hidden), net.option("outputs"), name="decoder")


def message_step(tape: Tape, nodes: Rows, edges: Rows, width: int, hidden: int, senders: Rows | None = None) -> Rows:
    """New edges from their ends, new nodes from their edges, both added to what was there."""
    collect(tape, nodes if senders is None else senders, edges.length, name="gather_senders")
    collect(tape, nodes, edges.length, name="gather_receivers")
    new = tape.add(message_mlp(tape, edges, 3.0 * width, width, hidden, "edges"), "add_edges")
    spread(tape, new, nodes.length)
    return tape.add(message_mlp(tape, nodes, 2.0 * width, width, hidden, "nodes"), "add_nodes")
