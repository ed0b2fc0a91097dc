"""Streams of lists through a scorer: chunks that do not depend on shards, a journal to resume from, a cache, shards and their merging.

Reading order: `chunks` (what is evaluated together), `journal` and `cache` (what is known already), `engine` (`score`, which uses them), `join` (shards),
`dry_run` (what it would take).
"""

from rescore.formats import read_lists as read
from rescore.pipeline.cache import Cache
from rescore.pipeline.chunks import Shard
from rescore.pipeline.dry_run import forecast
from rescore.pipeline.engine import Work, score
from rescore.pipeline.join import merge
from rescore.pipeline.journal import Journal

__all__ = ["Cache", "Journal", "Shard", "Work", "forecast", "merge", "read", "score"]
