"""The search of joint decoding: drafts of an utterance, what samplers and edits make of them.

A list holds what joint decoding makes of an utterance and then the drafts that it began with: the
greedy transcript, and where more drafts are asked for the best others of a beam search, which have
other lengths. With edits, the texts that these lead to come first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rescore.acoustic.ctc_paths import LabelledPath, align
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.decoding.canvas import Canvas
from rescore.decoding.ctc import BEAM_PER_COUNT, greedy_transcript
from rescore.decoding.driver import Sampler, counted, run_samplers, together
from rescore.decoding.edits import EditSearch
from rescore.decoding.joint import Draft, Frame
from rescore.decoding.posterior_decoder import Proposal, Proposals
from rescore.decoding.vocabulary import JointVocabulary
from rescore.diffusion.readouts import Readout, read_token
from rescore.interfaces import Denoiser

__all__ = ["JointSearch", "MakeSampler", "ctc_draft", "draft_paths"]

#: The sampler of a draft of an utterance, by its id and the number of the candidate.
MakeSampler = Callable[[Draft, str, int], Sampler[Canvas]]


def ctc_draft(
    posteriors: Posteriors, path: LabelledPath, vocabulary: JointVocabulary, frame: Frame
) -> Draft:
    """The transcript of a path as a draft.

    `frame` says which frame of a label speaks for it: its first, or the one of its highest
    posterior.
    """
    frames = path.first if frame == "first" else path.peak
    tokens = vocabulary.to_tokens(path.labels.tolist())
    rows = vocabulary.log_probs(posteriors.log_probs[frames])
    return Draft(Canvas.of_text(tokens), rows, path.confidence)


def draft_paths(utterances: Sequence[Posteriors], count: int) -> list[list[LabelledPath]]:
    """The greedy path of every utterance, and the best paths of the likeliest other texts.

    `count` paths at most; the texts are those of a prefix beam search, so they have other lengths.
    """
    paths = [[greedy_transcript(posteriors)] for posteriors in utterances]
    if count == 1:
        return paths
    rows = [posteriors.log_probs for posteriors in utterances]
    symbols = utterances[0].symbols
    beam = BeamOptions(BEAM_PER_COUNT * count)
    beams = prefix_beam_search(rows, symbols.blank, beam, never=sorted(symbols.special))
    for of_one, prefixes, log_probs in zip(paths, beams, rows, strict=True):
        greedy = tuple(of_one[0].labels.tolist())
        others = [prefix.labels for prefix in prefixes if prefix.labels != greedy]
        of_one += [align(log_probs, labels, symbols.blank) for labels in others[: count - 1]]
    return paths


@dataclass(frozen=True)
class JointSearch:
    """A `Search`: what samplers make of `drafts` transcripts, each `candidates` times.

    `edits` goes on from the first transcript; None: lengths stay. `read_clean` reads the queries of
    its pseudo-likelihood.
    """

    origin: str
    denoiser: Denoiser
    vocabulary: JointVocabulary
    sampler: MakeSampler
    frame: Frame = "first"
    drafts: int = 1
    candidates: int = 1
    edits: EditSearch | None = None
    read_clean: Readout = read_token
    device: str = "cpu"

    def __call__(self, utterances: Sequence[Posteriors], /) -> list[Proposals]:
        """The proposals for every utterance."""
        samplers = self.samplers(utterances, draft_paths(utterances, self.drafts))
        return run_samplers(self.denoiser, samplers, read_clean=self.read_clean, device=self.device)

    def samplers(
        self, utterances: Sequence[Posteriors], paths: Sequence[Sequence[LabelledPath]]
    ) -> list[Sampler[Proposals]]:
        """A sampler for every utterance, from its `draft_paths`."""
        return [
            self._search(posteriors, of_one)
            for posteriors, of_one in zip(utterances, paths, strict=True)
        ]

    def _search(self, posteriors: Posteriors, paths: Sequence[LabelledPath]) -> Sampler[Proposals]:
        search = counted(self._sequences(posteriors, paths))
        proposed = yield from search
        return Proposals(proposed.result, proposed.evaluations)

    def _sequences(
        self, posteriors: Posteriors, paths: Sequence[LabelledPath]
    ) -> Sampler[list[Proposal]]:
        """Edited texts, the last one first; what becomes of the drafts; the drafts themselves."""
        drafts = [ctc_draft(posteriors, path, self.vocabulary, self.frame) for path in paths]
        canvases = yield from together(
            [
                self.sampler(draft, posteriors.id, number * self.candidates + candidate)
                for number, draft in enumerate(drafts)
                for candidate in range(self.candidates)
            ]
        )
        joint = [self._proposal(canvas, self.origin) for canvas in canvases]
        edited: list[Proposal] = []
        if self.edits is not None:
            text = self.edits.symbols.decode(joint[0].labels)
            visited = yield from self.edits(posteriors, text)
            edited = [Proposal(labels, "edits") for labels in reversed(visited)]
        return [
            *edited,
            *joint,
            self._proposal(drafts[0].canvas, "ctc_greedy"),
            *(self._proposal(draft.canvas, "ctc_beam") for draft in drafts[1:]),
        ]

    def _proposal(self, canvas: Canvas, origin: str) -> Proposal:
        return Proposal(self.vocabulary.to_labels(canvas.tokens[canvas.editable]), origin)
