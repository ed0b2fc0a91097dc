"""Utterances through a decoder, each with a list of new hypotheses: resumable and in shards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from rescore.decoding.base import Decoder, DecoderInput, DecoderOptions, load_decoder
from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.formats.record import from_dict
from rescore.ids import each_once
from rescore.pipeline.engine import Engine, Evaluator, InProcess, ItemTraits
from rescore.pipeline.journal import Journal
from rescore.pipeline.ray_cluster import import_ray
from rescore.pipeline.ray_pool import RayPool
from rescore.pipeline.shards import Shard
from rescore.types import NBest

__all__ = ["Decoding", "MakeDecoderEvaluator", "decode", "decoder_pool"]

logger = logging.getLogger("rescore")

#: How `decode` makes the evaluator of its chunks.
MakeDecoderEvaluator = Callable[[Decoder], Evaluator[DecoderInput, NBest]]

#: Evaluations of a chunk, in the decoder's own measure; for CTC, frames: 7 minutes of audio at 25
#: a second.
_CHUNK = 10_000


@dataclass
class Decoding:
    """What a run has done so far; `advance` is called after every utterance with its seconds."""

    utterances: int = 0
    hypotheses: int = 0
    seconds: float = 0.0
    advance: Callable[[float], object] = field(default=lambda seconds: None)

    def add(self, item: DecoderInput, nbest: NBest) -> None:
        """Count one utterance."""
        self.utterances += 1
        self.hypotheses += len(nbest.hyps)
        self.seconds += item.seconds
        self.advance(item.seconds)


def decode(
    decoder: Decoder,
    *,
    references: Mapping[str, str] | None = None,
    progress: Decoding | None = None,
    shard: Shard | None = None,
    journal: Journal[NBest] | None = None,
    evaluator: MakeDecoderEvaluator = InProcess,
) -> Iterator[NBest]:
    """Yield the list of every utterance of the decoder's file, in its order.

    `references` by id join the lists. `shard` skips the utterances of other shards. `journal`
    stores lists as they are made, and returns them to the run that resumes.
    Raises FormatError for an utterance without a reference where there are references, before any
    is decoded, and for the journal of another run; otherwise what the decoder raises.
    """
    progress = progress or Decoding()
    every = list(decoder.inputs())
    items = [item for item in every if shard is None or item.id in shard]
    _check_references(items, references)
    _count_others(every, references)
    with ExitStack() as stack:
        if journal is not None:
            journal.begin(_Codec(), {"signature": decoder.signature})
        chunk_evaluator = evaluator(decoder)
        stack.callback(chunk_evaluator.close)
        traits = ItemTraits[DecoderInput, NBest](
            id_of=lambda item: item.id,
            content=lambda item: [item.id, decoder.condition(item.id)],
            look_up=_Everything,
            done=progress.add,
        )
        engine = Engine(decoder, chunk_evaluator, traits, chunk_evaluations=_CHUNK, journal=journal)
        for item, nbest in engine.run(each_once(items, "decoded")):
            reference = nbest.ref if references is None else references[item.id]
            yield replace(nbest, ref=reference, where=item.where)


def decoder_pool(
    name: str, path: str, options: DecoderOptions, workers: int, address: str | None = None
) -> MakeDecoderEvaluator:
    """The `evaluator` of `decode` that evaluates in Ray actors, as `ray_pool` of `score` does.

    Raises RescoreError if Ray is not installed.
    """
    import_ray()
    build = partial(load_decoder, name, str(Path(path).absolute()), options.absolute())

    def start(decoder: Decoder) -> RayPool[DecoderInput, NBest]:
        return RayPool(decoder, build, workers=workers, device=decoder.device, address=address)

    return start


def _check_references(items: Iterable[DecoderInput], references: Mapping[str, str] | None) -> None:
    for item in items if references is not None else ():
        if references is not None and item.id not in references:
            raise FormatError(
                f"{item.place()}: there is no reference with this id; give the references of this "
                "very set"
            )


def _count_others(items: Iterable[DecoderInput], references: Mapping[str, str] | None) -> None:
    """Log how many references have nothing to decode: error rates will not count them."""
    others = (references or {}).keys() - {item.id for item in items}
    if others:
        logger.warning(
            "%d references have no utterance to decode, %s for one; error rates leave them out",
            len(others),
            min(others),
        )


class _Everything:
    """`Missing` of the engine: every utterance of a chunk is decoded."""

    def __init__(self, items: Sequence[DecoderInput]) -> None:
        self.missing = list(items)

    def complete(self, evaluated: Sequence[NBest]) -> list[NBest]:
        """The lists, as they are."""
        return list(evaluated)

    def keep(self, results: Sequence[NBest]) -> None:
        """Nothing more is stored."""


class _Codec:
    """Lists as native records."""

    def encode(self, result: NBest) -> bytes:
        """See Codec."""
        return jsonl.encode(result)

    def decode(self, data: bytes) -> NBest:
        """See Codec."""
        return from_dict(msgspec.json.decode(data), "journal")
