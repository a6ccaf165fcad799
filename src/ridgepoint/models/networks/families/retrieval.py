"""Search as work: expected distances and memory accesses of flat, inverted-file, product-quantized, graph and term indexes.

The batch is the number of queries; what is stored counts as parameters, so that a ledger shows whether an index fits.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream


def _select(tape: Tape, candidates: Num, name: str = "top_k") -> None:
    """The best of ``candidates`` scores per query: every score is read once and compared."""
    read = tape.batch * candidates * 4.0
    tape.record(Stream(read_bytes=read, write_bytes=0.0, flop=tape.batch * candidates, label=tape.label(name)))


def _scan(tape: Tape, candidates: Num, bytes_each: Num, flop_each: Num, name: str, random: bool = False) -> None:
    """Every query reads its own ``candidates``."""
    count = tape.batch * candidates
    tape.record(
        Stream(
            read_bytes=count * bytes_each,
            write_bytes=count * 4.0,
            flop=count * flop_each,
            pattern="gather" if random else "elementwise",
            label=tape.label(name),
        )
    )


def _rerank(tape: Tape, sizes: Sizes) -> None:
    """The best ``rerank`` candidates are compared again in full, each read at a random place."""
    if "rerank" not in sizes:
        return
    dim = sizes.get("full_dim", sizes["dim"])
    tape.count("full_vectors", sizes["vectors"] * dim)
    _scan(tape, sizes["rerank"], dim * FORMATS[tape.acts].bytes, 2.0 * dim, "rerank", random=True)


@family("flat_search")
def flat_search(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Exact search: all distances as one matrix product, then the best k.

    With ``rerank`` candidates in ``full_dim`` values, ``dim`` is a prefix or projection that makes the shortlist: N·dim +
    K·full operations in place of N·full (Kusupati et al. 2022).

    Inputs: ``vectors``, ``dim``; ``rerank`` and ``full_dim``.
    """
    vectors, dim = sizes["vectors"], sizes["dim"]
    tape.count("vectors", vectors * dim)
    tape.matmul(tape.batch, vectors, dim, name="distances")
    _select(tape, vectors)
    _rerank(tape, sizes)


@family("ivf")
def ivf(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Inverted file (Sivic and Zisserman 2003; Jégou et al. 2011): the nearest ``nprobe`` of ``lists`` cells are scanned.

    Candidates of a query: vectors · nprobe / lists (cells of equal size). With ``code_bytes`` vectors are stored as product
    codes: a table of 256 distances per byte is computed for each query and probed cell (once per query with one list),
    2·256·dim operations, and a candidate costs one look-up and addition per byte. ``rerank`` candidates are read in full.

    Inputs: ``vectors``, ``dim``, ``lists``, ``nprobe``; ``code_bytes`` and ``rerank`` where the index has them.
    """
    vectors, dim, lists, nprobe = sizes["vectors"], sizes["dim"], sizes["lists"], sizes["nprobe"]
    width = FORMATS[tape.acts].bytes
    tape.count("centroids", lists * dim)
    tape.matmul(tape.batch, lists, dim, name="coarse")
    _select(tape, lists, "top_cells")
    candidates, stored, flop = vectors * nprobe / lists, dim * width, 2.0 * dim
    if "code_bytes" in sizes:
        stored = flop = sizes["code_bytes"]
        _scan(tape, nprobe * 256.0 * stored, 4.0 * dim / stored, 2.0 * dim / stored, "tables")
    tape.count("vectors", vectors * stored / width)
    _scan(tape, candidates, stored, flop, "scan")
    _select(tape, candidates)
    _rerank(tape, sizes)


@family("hnsw")
def hnsw(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Hierarchical navigable small worlds (Malkov and Yashunin 2020).

    Above the base about ln(vectors)/ln(M) levels are descended, one hop of M distances each. At the base ``ef`` nodes are
    expanded; each has up to 2·M neighbours, so ef · 2·M distances are the most that a query computes (neighbours seen before
    cost none). Every distance reads a vector at a random place, every hop a list of 4-byte neighbours. The wait of each hop
    for the one before is not included.

    Inputs: ``vectors``, ``dim``, ``degree`` (M), ``ef``; ``rerank`` and ``full_dim`` where the graph holds short vectors.
    """
    vectors, dim, degree, ef = (sizes[name] for name in ("vectors", "dim", "degree", "ef"))
    width = FORMATS[tape.acts].bytes
    levels = np.log(vectors) / np.log(degree)
    tape.count("vectors", vectors * dim)
    tape.count("links", vectors * 2.0 * degree * 4.0 / width)
    _scan(tape, levels * degree + ef * 2.0 * degree, dim * width, 2.0 * dim, "distances", random=True)
    _scan(tape, levels + ef, 2.0 * degree * 4.0, 2.0 * degree * np.log2(ef), "neighbours", random=True)
    _rerank(tape, sizes)


@family("term_search")
def term_search(tape: Tape, net: Network, sizes: Sizes) -> None:
    """Ranking by terms (BM25: Robertson and Zaragoza 2009) by scanning whole posting lists into one score per document.

    A posting is 8 bytes (document, frequency) and costs about 6 operations; its document's score is read and written at a
    random place.

    Inputs: ``documents``, ``terms`` of a query, ``postings`` of a term (mean).
    """
    touched = sizes["terms"] * sizes["postings"]
    _scan(tape, touched, 8.0, 6.0, "postings")
    _scan(tape, touched, 4.0, 1.0, "accumulate", random=True)
    _select(tape, np.minimum(touched, sizes["documents"]))
