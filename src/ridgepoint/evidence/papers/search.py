"""Full-text search over the papers, for people who describe a problem rather than name its field.

An SQLite FTS5 index in memory (Porter stems) ranked by BM25 (Robertson and Zaragoza 2009). A question is widened by the tags
whose phrases it holds (``catalog/paper_terms.toml``): "cached keys and values too big" asks for ``kv_compression`` too.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from threading import Lock

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.papers.catalog import Paper, papers
from ridgepoint.evidence.papers.terms import Term, terms

_COLUMNS = {"name": 10.0, "mechanism": 5.0, "domain": 2.0, "bottleneck": 1.5, "title": 3.0, "text": 2.0, "setting": 1.0}
"""What is searched, with the weight of a hit in it."""
_CORE = {1: 1.25, 2: 1.1, 3: 1.0}
"""How much more a hit counts by priority: between equals, the core row comes first."""
_MOST_WORDS = 60


@dataclass(frozen=True)
class Hit:
    """A paper that was found, how well it matches (larger is better), and the tags through which the question was read."""

    paper: Paper
    score: float
    understood: tuple[str, ...]


def search_papers(question: str, top: int = 10) -> tuple[Hit, ...]:
    """The ``top`` papers that match a question in plain words, best first; none where no word is known.

    >>> [hit.paper.slug for hit in search_papers("the GPU waits for the data loader", top=3)]
    ['beyond-inference', 'piper-preprocessing', 'ffcv']

    Errors: ``bad_search`` for a question without words.
    """
    words = _words(question)
    if not words:
        raise RidgepointError("bad_search", f"'{question}' has no words to search for", "describe the problem in words")
    asked = [*words, *_pairs(question)]
    rank = f"bm25(papers, {', '.join(map(str, (0.0, *_COLUMNS.values())))})"
    with _ONE_AT_A_TIME:
        index = _index()
        understood = _understood(index, asked)
        query = f"SELECT slug, {rank} FROM papers WHERE papers MATCH ?"
        found = index.execute(query, [_any([*asked, *understood])]).fetchall()
    hits = [Hit(papers()[slug], -score * _CORE[papers()[slug].priority], understood) for slug, score in found]
    return tuple(sorted(hits, key=lambda hit: (not _named(hit.paper, question), -hit.score, hit.paper.slug))[:top])


def _named(paper: Paper, question: str) -> bool:
    """Whether the question is the paper's name, however it is spaced."""
    return _letters(question) in (_letters(paper.slug), _letters(paper.name))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold())


def _words(text: str) -> list[str]:
    """The words that say something, and the parts of a compound as one word too.

    >>> _words("The all-reduce is slow")
    ['reduce', 'slow', 'allreduce']
    """
    found = re.findall(r"\w+", text.casefold())[:_MOST_WORDS]
    joined = [compound.replace("-", "") for compound in re.findall(r"\w+(?:-\w+)+", text.casefold())[:_MOST_WORDS]]
    return [word for word in [*found, *joined] if word not in terms().idle] or found


def _pairs(text: str) -> list[str]:
    """Neighbours as one word: who asks for "flash attention" or "all reduce" may find it written otherwise."""
    found = re.findall(r"\w+", text.casefold())[:_MOST_WORDS]
    return [first + second for first, second in pairwise(found)]


def _any(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(words))


_ONE_AT_A_TIME = Lock()
"""The page answers from several threads, and a question is read through a table of the index."""


@cache
def _index() -> sqlite3.Connection:
    """The table of papers, and one of phrases that ``_understood`` reads a question with."""
    index = sqlite3.connect(":memory:", check_same_thread=False)  # ``_ONE_AT_A_TIME`` guards it
    columns = f"slug UNINDEXED, {', '.join(_COLUMNS)}"
    try:
        index.execute(
            f"CREATE VIRTUAL TABLE papers USING fts5({columns}, tokenize=\"porter unicode61 tokenchars '_'\")"
        )
        index.execute("CREATE VIRTUAL TABLE asked USING fts5(words, tokenize='porter unicode61')")
    except sqlite3.OperationalError as error:
        raise RidgepointError("no_search", f"this Python's SQLite has no text search: {error}", "needs FTS5") from None
    places = ", ".join("?" * (1 + len(_COLUMNS)))
    index.executemany(f"INSERT INTO papers VALUES ({places})", [_fields(paper) for paper in papers().values()])
    return index


def _fields(paper: Paper) -> tuple[str, ...]:
    lists = terms()
    return (
        paper.slug,
        f"{paper.slug.replace('-', ' ')} {paper.name}",
        _tagged(paper.mechanism, lists.mechanism),
        _tagged((paper.domain,), lists.domain),
        _tagged(paper.bottleneck, lists.bottleneck),
        paper.title,
        f"{paper.does}; {paper.feature}",
        " ".join((*paper.models, *paper.hardware, *(claim.condition for claim in paper.claims))),
    )


def _tagged(tags: Iterable[str], known: dict[str, Term]) -> str:
    """Tags with their titles. The first mechanism is a row's main one and counts twice."""
    named = [f"{tag} {known[tag].title}" for tag in tags]
    return " ; ".join([*named[:1], *named])


def _understood(index: sqlite3.Connection, words: list[str]) -> tuple[str, ...]:
    """Tags one of whose phrases has all its words in the question."""
    index.execute("DELETE FROM asked")
    index.execute("INSERT INTO asked VALUES (?)", [" ".join(words)])
    lists = terms()
    return tuple(
        tag
        for group in (lists.mechanism, lists.bottleneck, lists.domain)
        for tag, term in group.items()
        if any(_holds(index, phrase) for phrase in (term.title, *term.words))
    )


def _holds(index: sqlite3.Connection, phrase: str) -> bool:
    wanted = " AND ".join(f'"{word}"' for word in _words(phrase))
    return index.execute("SELECT 1 FROM asked WHERE asked MATCH ?", [wanted]).fetchone() is not None
