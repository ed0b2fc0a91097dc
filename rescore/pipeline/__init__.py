"""Streams of lists through a scorer: chunks that do not depend on shards, a journal to resume from, a cache, shards and their merging.

Reading order: `chunks` (what is evaluated together), `journal` and `cache` (what is known already), `engine` (`score`, which uses them), `merge`, `forecast`.
"""

from rescore.formats import read_lists as read
from rescore.pipeline.cache import Cache
from rescore.pipeline.chunks import Shard
from rescore.pipeline.engine import Work, score
from rescore.pipeline.forecast import forecast
from rescore.pipeline.journal import Journal
from rescore.pipeline.merge import merge

__all__ = ["Cache", "Journal", "Shard", "Work", "forecast", "merge", "read", "score"]
