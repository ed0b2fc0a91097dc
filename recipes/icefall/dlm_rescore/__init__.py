"""Diffusion language models in icefall: rescore the paths of a k2 lattice, or write them to a file.

Link or copy this folder into a recipe (`egs/librispeech/ASR/zipformer/`), as docs/icefall.md shows.
It needs k2, torch and the package `dlmrescore`, and nothing of icefall. Reading order: paths.py
(lattice -> unique word sequences with scores), stage.py (`rescore_with_dlm`), beam_search.py (the
same for a transducer), dump.py (lists into a file), posteriors.py (CTC
posteriors into an archive), recipe.py (what the patches call).
"""

from __future__ import annotations

from dlm_rescore.beam_search import modified_beam_search_dlm_rescore
from dlm_rescore.dump import dump_beam_search, dump_nbest
from dlm_rescore.posteriors import dump_posteriors
from dlm_rescore.stage import rescore_with_dlm, rescore_with_dlm_no_ngram

__all__ = [
    "dump_beam_search",
    "dump_nbest",
    "dump_posteriors",
    "modified_beam_search_dlm_rescore",
    "rescore_with_dlm",
    "rescore_with_dlm_no_ngram",
]
