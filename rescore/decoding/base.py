"""What a method of `dlmrescore decode` is: its options, how it is built, what it decodes.

A method proposes hypotheses for every utterance of FILE and gives them the scores that it knows
exactly. The lists are like any others: `score`, `tune` and `fuse` go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol

from rescore.acoustic.prefix_ngram import NgramUnit
from rescore.decoding.commit import CommitName, PositionIndex
from rescore.decoding.deliberation import Opening
from rescore.decoding.joint import Final, Frame, Start, Update
from rescore.errors import ScoreError
from rescore.interfaces import ChunkTask
from rescore.models.opening import check_device
from rescore.registry import DECODERS, lookup
from rescore.scorers.options import absolute_path
from rescore.types import NBest

__all__ = ["Decoder", "DecoderFamily", "DecoderInput", "DecoderOptions", "load_decoder"]


@dataclass(frozen=True)
class DecoderInput:
    """An utterance to decode: its id, the seconds of its audio, the file it is in."""

    id: str
    seconds: float
    where: str = ""

    def place(self) -> str:
        """Name this utterance for a message."""
        return f"{self.where}: utterance {self.id}" if self.where else f"utterance {self.id}"


class Decoder(ChunkTask[DecoderInput, Any, NBest], Protocol):
    """A method at work on a file: a `ChunkTask` from utterances to lists.

    Every hypothesis of a list says in `raw["origin"]` which method proposed it.
    """

    @property
    def name(self) -> str:
        """The method, as `--method` names it."""

    def inputs(self) -> Iterator[DecoderInput]:
        """The utterances of the file, in its order."""

    def condition(self, utterance: str, /) -> str:
        """A digest of what the list of an utterance depends on; a journal goes by it."""


@dataclass(frozen=True)
class DecoderOptions:
    """Options of the methods; None is a method's own default, and counts as not given.

    A method refuses an option that it does not read (`DecoderFamily`).

    count: hypotheses of a list, at most.
    beam: prefixes that the search keeps after every frame.
    min_log_prob: a symbol that is less likely at a frame is not appended there.
    ngram: n-gram model that steers the search: a directory, an ARPA file or a KenLM binary.
    ngram_unit: what its words are, words or the recogniser's symbols.
    ngram_scale, ngram_bonus: weight of its log-probability; nats for each unit.
    bpe: the recogniser's SentencePiece model (None: the one in the file of posteriors).
    spans: also write the symbols of a hypothesis with their times and confidences.
    model: language model: a checkpoint directory (None: the embedded one).
    device: torch device of its network.
    ctc_scale, lm_scale: what the log-probabilities of the two models are multiplied by.
    drafts: transcripts to begin with: the greedy one, and the best others of a beam search.
    frame: which frame of a label speaks for it, its first or the one of its highest posterior.
    candidates, seed: transcripts drawn for an utterance; the seed of their random numbers.
    t_start, steps: noise level of the start, and steps from there to 0 (uniform states).
    update, final, start: what a step draws from; how the last step decides; whether the draft is
        noised first (`rescore.decoding.joint`).
    hide_below: labels of a lower CTC confidence are hidden (masked states).
    commit, commit_value: rule that says which of them are decided in a round, and its number
        (`rescore.decoding.commit`).
    open: which tokens of a list's first hypothesis are reconsidered.
    posteriors: file of posteriors that gives proposals their `am`.
    seen_words: propose only texts of words that are in the list.
    remask: shares of the filled positions that are opened at random and filled again.
    position_decay, position_index: of the rule `position_biased`.
    guidance: how far the network is led away from what it says without audio.
    canvas: places for text and EOS (None: what CTC expects, and some more).
    draft: what a canvas begins with: the greedy CTC transcript, the first hypothesis of `lists`, or
        masks; `margin`: places beyond it.
    tau: probability from which a position is decided; agree: and its choice is that of the round
        before.
    prune: drop decided ends of the canvas; None: yes.
    revoke: decided tokens that become less likely open again; revoke_draft: those of the draft too.
    refresh: rounds from one full computation of the canvas to the next; 0: only the first.
    remote_code: code that comes with a model of Hugging Face may run.
    edits: deletions and insertions of a transcript, at most (`rescore.decoding.edits`).
    gate: only labels and frames that CTC gives less are edited; tokens of a draft that it gives at
        least that are kept.
    """

    count: int | None = None
    beam: int | None = None
    min_log_prob: float | None = None
    ngram: str | None = None
    ngram_unit: NgramUnit | None = None
    ngram_scale: float | None = None
    ngram_bonus: float | None = None
    bpe: str | None = None
    spans: bool = False
    model: str | None = None
    device: str = "cpu"
    ctc_scale: float | None = None
    lm_scale: float | None = None
    drafts: int | None = None
    frame: Frame | None = None
    candidates: int | None = None
    seed: int | None = None
    t_start: float | None = None
    steps: int | None = None
    update: Update | None = None
    final: Final | None = None
    start: Start | None = None
    hide_below: float | None = None
    commit: CommitName | None = None
    commit_value: float | None = None
    open: Opening | None = None
    posteriors: str | None = None
    seen_words: bool = False
    remask: tuple[float, ...] | None = None
    position_decay: float | None = None
    position_index: PositionIndex | None = None
    guidance: float | None = None
    canvas: int | None = None
    edits: int | None = None
    gate: float | None = None
    draft: Literal["ctc", "nbest", "mask"] | None = None
    lists: str | None = None
    margin: int | None = None
    tau: float | None = None
    agree: bool = False
    prune: bool | None = None
    revoke: float | None = None
    revoke_draft: bool = False
    refresh: int | None = None
    remote_code: bool = False

    def absolute(self) -> DecoderOptions:
        """These options with absolute paths, for a process in another working directory."""
        return replace(
            self,
            ngram=absolute_path(self.ngram),
            bpe=absolute_path(self.bpe),
            model=absolute_path(self.model),
            posteriors=absolute_path(self.posteriors),
            lists=absolute_path(self.lists),
        )

    @property
    def changed(self) -> frozenset[str]:
        """The names of the options that are given."""
        return frozenset(
            option.name for option in fields(self) if getattr(self, option.name) != option.default
        )


@dataclass(frozen=True)
class DecoderFamily:
    """A method under its name: `dlmrescore decode --method NAME`.

    `build(path, options)` makes the decoder of a file. `options` names the options it reads, and
    `needs` maps an option to another one without which it means nothing. `build_every` makes the
    decoders of several settings that share the models of the first; None: each is built alone.
    """

    name: str
    build: Callable[[str, DecoderOptions], Decoder]
    options: frozenset[str]
    needs: tuple[tuple[str, str], ...] = ()
    build_every: Callable[[str, Sequence[DecoderOptions]], Sequence[Decoder]] | None = None

    def __call__(self, path: str, options: DecoderOptions) -> Decoder:
        """Build the decoder. Raises ScoreError for options that it does not read."""
        self.check(options)
        return self.build(path, options)

    def every(self, path: str, settings: Sequence[DecoderOptions]) -> list[Decoder]:
        """A decoder of a file for each of several settings, in their order. Raises as a call."""
        for options in settings:
            self.check(options)
        if self.build_every is not None:
            return list(self.build_every(path, settings))
        return [self.build(path, options) for options in settings]

    def check(self, options: DecoderOptions) -> None:
        """Raise ScoreError that names what is given and not read, if there is any.

        Raises ModelError for a device that cannot be used.
        """
        unread = sorted(options.changed - self.options)
        if unread:
            raise ScoreError(
                f"--method {self.name} does not read {', '.join(map(_flag, unread))};"
                f" leave {'it' if len(unread) == 1 else 'them'} out"
                f" (it reads {', '.join(map(_flag, sorted(self.options)))})"
            )
        for option, needed in self.needs:
            if option in options.changed and needed not in options.changed:
                raise ScoreError(
                    f"{_flag(option)} belongs to {_flag(needed)}; give both, or neither"
                )
        check_device(options.device)


def load_decoder(name: str, path: str, options: DecoderOptions | None = None) -> Decoder:
    """The method called `name`, at work on the file `path`.

    Raises RescoreError for an unknown name or a broken plug-in, FormatError or ModelError for a
    file or model that cannot be used, ScoreError for an option that the method does not read.
    """
    family: DecoderFamily = lookup(DECODERS, name, "decoder")
    return family(path, options or DecoderOptions())


def _flag(option: str) -> str:
    """How the command line writes an option."""
    return "--" + option.replace("_", "-")
