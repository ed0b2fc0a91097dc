"""Names -> "module:object". The file to open first: everything a user can name on the command line is found from here.

Nothing is imported until it is asked for, so that a missing optional library is only missed by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rescore.errors import RescoreError

__all__ = ["DECISIONS", "FORMATS", "MODELS", "NORMALIZERS", "SCORERS", "lookup"]

#: Outside formats: an object with `read(path) -> Iterator[NBest]` (and `write` where that makes sense). `dlmrescore convert --from NAME`.
FORMATS: dict[str, str] = {
    "jsonl": "rescore.formats.jsonl:JSONL",
    "hyporadise": "rescore.formats.hyporadise:HYPORADISE",
    "mlm-scoring": "rescore.formats.mlm_scoring:MLM_SCORING",
}

#: Scorers: `build(options) -> Scorer`. `dlmrescore score --scorer NAME`.
SCORERS: dict[str, str] = {
    "mdlm": "rescore.scorers.mdlm:build",
    "usdm": "rescore.scorers.usdm:build",
    "ar": "rescore.scorers.ar:build",
    "mlm": "rescore.scorers.mlm:build",
    "ngram": "rescore.scorers.ngram:build",
}

#: Model kinds, as `config.json` or a Hub model declares them: `load(path, ...) -> Denoiser | CausalLM`.
MODELS: dict[str, str] = {
    "dlmrescore": "rescore.models.checkpoint:load",
    "hf-masked": "rescore.models.hub:load_masked",
    "hf-causal": "rescore.models.hub:load_causal",
}

#: Text normalisers, named in checkpoints and by `eval --normalizer`: `str -> str`.
NORMALIZERS: dict[str, str] = {
    "none": "rescore.text:identity",
    "librispeech": "rescore.text:librispeech",
}

#: Decisions: how one hypothesis is chosen from a scored list. `dlmrescore fuse --decision NAME`.
DECISIONS: dict[str, str] = {
    "map": "rescore.decide:map_choice",
    "mbr": "rescore.decide:mbr_choice",
}


def lookup(table: Mapping[str, str], name: str, what: str) -> Any:
    """Import and return what `name` stands for in `table`.

    Raises RescoreError naming the known names if `name` is not one of them.
    """
    if name not in table:
        raise RescoreError(f"{what} {name!r} is unknown; known: {', '.join(sorted(table))}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
