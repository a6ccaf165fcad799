"""The papers that Ridgepoint answers to (design §7): listed, searched, shown. ``rp.papers`` is this package.

>>> import ridgepoint as rp
>>> [hit.paper.slug for hit in rp.papers.search("saving checkpoints stalls training", top=1)]
['datastates-llm']
>>> rp.papers.show("tova").mechanism
('kv_eviction',)
>>> len(rp.papers.list())
549
"""

from ridgepoint.evidence.papers.catalog import Paper, find_paper, list_papers
from ridgepoint.evidence.papers.rows import Claim, Workload
from ridgepoint.evidence.papers.search import Hit, search_papers

# The words of the command line: `ridgepoint papers list`, `search` and `show`.
list = list_papers
search = search_papers
show = find_paper

__all__ = ["Claim", "Hit", "Paper", "Workload", "list", "search", "show"]
