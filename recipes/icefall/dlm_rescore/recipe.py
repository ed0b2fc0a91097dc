"""What the patches add to a recipe's decode.py: two decoding methods, their flags and data sets.

`nbest-dump` writes the lists of dev and test sets. `dlm-rescoring` rescores in process: the test
sets if both scales are given; else a grid over the dev sets, because a scale chosen on a test set
says nothing about new data.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dlm_rescore.beam_search import modified_beam_search_dlm_rescore
from dlm_rescore.dump import dump_beam_search, dump_nbest
from dlm_rescore.paths import IdsToText, word_ids
from dlm_rescore.posteriors import dump_posteriors
from dlm_rescore.stage import rescore_with_dlm
from rescore.scorers import Scorer, ScorerOptions, load_scorer

__all__ = [
    "METHODS",
    "add_arguments",
    "choose_sets",
    "decode_beam_search",
    "decode_lattice",
    "dump_file",
]

METHODS = ("nbest-dump", "dlm-rescoring")

_DEV = ("dev-clean", "dev-other")
_TEST = ("test-clean", "test-other")

Texts = dict[str, list[list[str]]]


def add_arguments(
    parser: argparse.ArgumentParser, ngram: bool = True, posteriors: bool = False
) -> None:
    """Add the flags of `dlm-rescoring`; --num-paths and --nbest-scale are the recipe's own.

    `ngram`: the lattices have an n-gram to scale. `posteriors`: the recipe hands its CTC output to
    `decode_lattice`.
    """
    group = parser.add_argument_group(
        "diffusion LM", "for --decoding-method dlm-rescoring (docs/icefall.md of dlmrescore)"
    )
    group.add_argument(
        "--dlm-scorer",
        default="mdlm",
        help="scorer[:estimator] as in `dlmrescore run`, such as mdlm:nelbo, usdm:pll or ar",
    )
    group.add_argument(
        "--dlm-model",
        default=None,
        help="checkpoint directory or Hugging Face id; default: the embedded model",
    )
    group.add_argument(
        "--dlm-scale",
        type=float,
        default=None,
        help="scale of its score; default: a grid over the dev sets",
    )
    if posteriors:
        group.add_argument(
            "--dlm-posteriors",
            action="store_true",
            help="also append the CTC posteriors to posteriors-{set}-{suffix}.ark",
        )
    if ngram:
        group.add_argument(
            "--dlm-ngram-lm-scale",
            type=float,
            default=None,
            help="scale of the lattice's own n-gram; default: a grid over the dev sets",
        )


def choose_sets(params: Any, librispeech: Any) -> tuple[list[str], list[Any]]:
    """Return the names and data loaders of the sets to decode with this method.

    `librispeech` is the recipe's data module.
    """
    is_grid = params.dlm_scale is None or params.get("dlm_ngram_lm_scale", 1.0) is None
    names = [*_DEV, *_TEST] if _method(params) == "nbest-dump" else list(_DEV if is_grid else _TEST)
    return names, [
        librispeech.test_dataloaders(getattr(librispeech, f"{name.replace('-', '_')}_cuts")())
        for name in names
    ]


def decode_lattice(
    params: Any,
    lattice: Any,
    supervisions: dict[str, Any],
    ids_to_text: IdsToText,
    ctc_output: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Texts:
    """Decode one batch from its lattice and return key -> words of every utterance.

    The recipe's `decode_one_batch` returns the same. `ctc_output`: log-probabilities (N, T, C), and
    the frames of each utterance (N,), for --dlm-posteriors.
    """
    cuts = supervisions["cut"]
    if params.get("dlm_posteriors") and ctc_output is not None:
        dump_posteriors(*ctc_output, cuts, dump_file(params, "posteriors", "ark"))
    common = {
        "num_paths": params.num_paths,
        "nbest_scale": params.nbest_scale,
        "use_double_scores": params.use_double_scores,
    }
    if _method(params) == "nbest-dump":
        best = dump_nbest(
            lattice,
            cuts,
            supervisions["text"],
            dump_file(params),
            ids_to_text=ids_to_text,
            **common,
        )
        return {"nbest-dump": [text.split() for text in best]}
    best_by_key = rescore_with_dlm(
        lattice,
        scorer=_scorer(params.dlm_scorer, params.dlm_model, str(lattice.device)),
        ids_to_text=ids_to_text,
        ngram_lm_scale=params.dlm_ngram_lm_scale,
        dlm_scale=params.dlm_scale,
        cut_ids=[cut.id for cut in cuts],
        **common,
    )
    return {
        key: [ids_to_text(ids).split() for ids in word_ids(best)]
        for key, best in best_by_key.items()
    }


def decode_beam_search(
    params: Any,
    model: torch.nn.Module,
    encoder_out: torch.Tensor,
    encoder_out_lens: torch.Tensor,
    supervisions: dict[str, Any],
    ids_to_text: IdsToText,
) -> Texts:
    """`decode_lattice` for a transducer's beam search."""
    cuts = supervisions["cut"]
    if _method(params) == "nbest-dump":
        best = dump_beam_search(
            model,
            encoder_out,
            encoder_out_lens,
            cuts,
            supervisions["text"],
            dump_file(params),
            ids_to_text=ids_to_text,
            beam=params.beam_size,
        )
        return {"nbest-dump": [text.split() for text in best]}
    ids_by_key = modified_beam_search_dlm_rescore(
        model,
        encoder_out,
        encoder_out_lens,
        _scorer(params.dlm_scorer, params.dlm_model, str(encoder_out.device)),
        ids_to_text,
        dlm_scale=params.dlm_scale,
        beam=params.beam_size,
        cut_ids=[cut.id for cut in cuts],
    )
    return {key: [ids_to_text(ids).split() for ids in hyps] for key, hyps in ids_by_key.items()}


def dump_file(params: Any, kind: str = "nbest", ending: str = "jsonl") -> Path:
    """Return the file for the lists of the current set: nbest-{set}-{suffix}.jsonl, or another.

    It stands beside the recipe's other results.
    """
    folder = Path(params.get("res_dir", params.exp_dir))
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f"-{params.suffix}" if "suffix" in params else ""
    return folder / f"{kind}-{params.dlm_set}{suffix}.{ending}"


def _method(params: Any) -> str:
    return params.decoding_method if "decoding_method" in params else params.method


@lru_cache(maxsize=1)
def _scorer(spec: str, model: str | None, device: str) -> Scorer:
    name, _, estimator = spec.partition(":")
    return load_scorer(name, ScorerOptions(model=model, estimator=estimator or None, device=device))
