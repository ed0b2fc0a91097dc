"""Items through a task, chunk by chunk: resumable, sharded, cached, on one machine or many.

Reading order: `scoring` (`rescore.score`, what most people call), `engine` (the loop), `chunks`
and `shards` (what is evaluated together, and where), `lookup`, `journal`, `cache` and `results`
(what is known already), `merging` (shards back into one file), `dry_run` (what a run would cost),
`ray_pool` (evaluation on many machines).
"""

from rescore.formats import read_lists as read
from rescore.pipeline.cache import Cache
from rescore.pipeline.dry_run import forecast
from rescore.pipeline.journal import Journal
from rescore.pipeline.merging import merge
from rescore.pipeline.scoring import Progress, score
from rescore.pipeline.shards import Shard

__all__ = ["Cache", "Journal", "Progress", "Shard", "forecast", "merge", "read", "score"]
