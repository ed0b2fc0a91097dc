"""The options of `dlmrescore decode`, as records: the method's, and the run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import click

from rescore.acoustic.prefix_beam import BeamOptions
from rescore.acoustic.prefix_ngram import UNITS
from rescore.cli.options import (
    RAY_OPTIONS,
    SEED_RANGE,
    collected,
    remote_code_option,
    shard_option,
    uses_ray,
)
from rescore.decoding.base import DecoderOptions
from rescore.decoding.commit import POSITION_DECAY, CommitName, PositionIndex
from rescore.decoding.ctc import BEAM_PER_COUNT, COUNT
from rescore.decoding.deliberation import Opening
from rescore.decoding.edits import GATE
from rescore.decoding.joint import Final, Frame, JointScales, Start, UniformSteps, Update
from rescore.decoding.joint_method import COMMIT, COMMIT_VALUE, HIDE_BELOW
from rescore.decoding.prior_guided_method import GATE as DRAFT_GATE
from rescore.decoding.prior_guided_method import MARGIN, TAU
from rescore.formats.references import REFERENCE_IDS, read_references
from rescore.pipeline import Shard
from rescore.pipeline.decoding import MakeDecoderEvaluator, decoder_pool
from rescore.pipeline.engine import InProcess

__all__ = ["HEADINGS", "RunOptions", "decoder_options", "run_options"]

#: The option that begins a section of --help, and the heading of the section.
HEADINGS = {
    "--method": "Method",
    "--count": "Search",
    "--ngram": "N-gram model",
    "--model": "Joint decoding and deliberation",
    "--position-decay": "Decoders that listen (mdm)",
    "--draft": "Prior-guided denoising",
    "--open": "Deliberation",
    "--grid": "Search for settings",
    "--calibrate": "Calibration",
    "--refs": "Output",
    "--shard": "Large runs",
}


def _shares(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """The numbers of `0.9,0.8`."""
    if value is None:
        return None
    try:
        shares = tuple(map(float, value.split(",")))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise click.BadParameter(f"got {value!r}, expected shares above 0, such as 0.9,0.8")
    return shares


_SEARCH = [
    click.option(
        "-n",
        "--count",
        type=click.IntRange(1),
        help=f"Hypotheses of a list, at most; default: {COUNT}.",
    ),
    click.option(
        "--beam",
        type=click.IntRange(1),
        help=f"Prefixes kept after every frame; default: {BEAM_PER_COUNT} x --count.",
    ),
    click.option(
        "--min-log-prob",
        type=float,
        help="A symbol that is less likely at a frame is not appended there, in nats; default: "
        f"{BeamOptions.min_log_prob:g}.",
    ),
    click.option(
        "--bpe",
        type=click.Path(dir_okay=False),
        help="SentencePiece model of the recogniser; default: the one in FILE.",
    ),
    click.option(
        "--spans",
        is_flag=True,
        help="Also write the symbols of each hypothesis with times and confidences.",
    ),
]
_NGRAM = [
    click.option(
        "--ngram",
        type=click.Path(),
        help="N-gram model that steers the search: of `train ngram`, ARPA or KenLM.",
    ),
    click.option(
        "--ngram-unit",
        type=click.Choice(UNITS),
        help="What the model's words are: words, or symbols of the recogniser; default: word.",
    ),
    click.option(
        "--ngram-scale",
        type=click.FloatRange(0, min_open=True),
        help="Weight of its log-probability; default: 1.",
    ),
    click.option("--ngram-bonus", type=float, help="Nats for each word or symbol; default: 0."),
]

_JOINT = [
    click.option(
        "--model",
        metavar="DIR",
        help="Checkpoint of the USDM (joint) or MDLM (joint_mdlm), trained on the recogniser's "
        "symbols.",
    ),
    click.option("--device", default="cpu", show_default=True, help="Torch device of its network."),
    click.option(
        "--ctc-scale",
        type=click.FloatRange(0),
        help=f"What multiplies the log-probabilities of CTC; default: {JointScales.ctc:g}.",
    ),
    click.option(
        "--lm-scale",
        type=click.FloatRange(0),
        help=f"What multiplies those of the language model; default: {JointScales.lm:g}.",
    ),
    click.option(
        "--drafts",
        type=click.IntRange(1),
        help="Transcripts to begin with: the greedy one and the best others of a beam search, "
        "which have other lengths; default: 1.",
    ),
    click.option(
        "--frame",
        type=click.Choice(get_args(Frame)),
        help="The frame that speaks for a label, its first or its peak; default: first.",
    ),
    click.option(
        "--t-start",
        type=click.FloatRange(0, 1, min_open=True),
        help=f"Noise level of the start; default: {UniformSteps.t_start:g}.",
    ),
    click.option(
        "--steps",
        type=click.IntRange(1),
        help=f"Steps from there to 0, an evaluation each; default: {UniformSteps.steps}.",
    ),
    click.option(
        "--update",
        type=click.Choice(get_args(Update)),
        help=f"What a step draws from; default: {UniformSteps.update}.",
    ),
    click.option(
        "--final",
        type=click.Choice(get_args(Final)),
        help=f"How the last step decides; default: {UniformSteps.final}.",
    ),
    click.option(
        "--start",
        type=click.Choice(get_args(Start)),
        help=f"Whether the draft is noised first; default: {UniformSteps.start}.",
    ),
    click.option(
        "--candidates",
        type=click.IntRange(1),
        help="Transcripts drawn of an utterance; default: 1 (deliberate: 8).",
    ),
    click.option("--seed", type=SEED_RANGE, help="Of the drawn numbers; default: 0."),
    click.option(
        "--hide-below",
        type=click.FloatRange(0, 1),
        help=f"joint_mdlm hides labels that CTC gives less; default: {HIDE_BELOW:g}.",
    ),
    click.option(
        "--remask",
        callback=_shares,
        metavar="SHARES",
        help="Shares of the filled labels that are hidden at random and filled again, such as "
        "0.9,0.8; default: none.",
    ),
    click.option(
        "--edits",
        type=click.IntRange(1),
        help="Labels deleted or inserted where CTC is unsure, at most; default: none, the length "
        "stays.",
    ),
    click.option(
        "--gate",
        type=click.FloatRange(0),
        help=f"Edits touch only what CTC gives less; default: {GATE:g}. prior_guided keeps tokens "
        f"of a draft that it gives at least that; default: {DRAFT_GATE:g}.",
    ),
    click.option(
        "--commit",
        type=click.Choice(get_args(CommitName)),
        help=f"Which hidden labels are decided in a round; default: {COMMIT}.",
    ),
    click.option(
        "--commit-value",
        type=float,
        help=f"Its k, probability, factor or nats; default: {COMMIT_VALUE:g}.",
    ),
]

_MDM = [
    click.option(
        "--position-decay",
        type=click.FloatRange(0),
        help="--commit position_biased: nats that a position takes off the confidence; default: "
        f"{POSITION_DECAY:g}.",
    ),
    click.option(
        "--position-index",
        type=click.Choice(get_args(PositionIndex)),
        help="Its position: the rank among open ones, or that on the canvas; default: rank.",
    ),
    click.option(
        "--guidance",
        type=click.FloatRange(0),
        help="How far predictions are led away from those without audio, at twice the evaluations; "
        "default: 0.",
    ),
    click.option(
        "--canvas",
        type=click.IntRange(2),
        help="Places for text and EOS; default: what CTC expects and some more.",
    ),
]

_PRIOR_GUIDED = [
    click.option(
        "--draft",
        type=click.Choice(["ctc", "nbest", "mask"]),
        help="What the canvas begins with: the greedy CTC transcript, the first hypothesis of "
        "--lists, or masks; default: ctc.",
    ),
    click.option("--lists", type=click.Path(), help="The lists of --draft nbest."),
    click.option(
        "--margin",
        type=click.IntRange(0),
        help=f"Places beyond the draft and EOS; default: {MARGIN}.",
    ),
    click.option(
        "--tau",
        type=click.FloatRange(0, 1),
        help=f"Probability from which a position is decided and leaves the loop; default: {TAU:g}.",
    ),
    click.option(
        "--agree",
        is_flag=True,
        help="Decide only what the round before would have put there, too.",
    ),
    click.option(
        "--prune/--no-prune",
        default=None,
        help="Whether decided ends drop from the canvas; default: they do.",
    ),
    click.option(
        "--revoke",
        type=click.FloatRange(0, 1),
        help="Decided tokens that become less likely than this open again, once each; default: "
        "none.",
    ),
    click.option("--revoke-draft", is_flag=True, help="Those that the draft brought, too."),
    click.option(
        "--refresh",
        type=click.IntRange(0),
        help="Rounds from one full computation of the canvas to the next; 1: every round, exact; "
        "default: 0, only the first.",
    ),
    remote_code_option,
]

_DELIBERATE = [
    click.option(
        "--open",
        type=click.Choice(get_args(Opening)),
        help="Which tokens of a list's first hypothesis are reconsidered; default: disagree.",
    ),
    click.option(
        "--posteriors",
        type=click.Path(dir_okay=False),
        help="Posteriors that give every hypothesis its am.",
    ),
    click.option(
        "--seen-words", is_flag=True, help="Propose only texts of words that are in the list."
    ),
]

#: Add the options of a method; the command gets them as `settings`, `DecoderOptions`.
decoder_options = collected(
    DecoderOptions, "settings", [*_SEARCH, *_NGRAM, *_JOINT, *_MDM, *_PRIOR_GUIDED, *_DELIBERATE]
)


@dataclass(frozen=True)
class RunOptions:
    """References, and where the run takes place."""

    refs: str | None
    refs_ids: str
    shard: Shard | None
    workers: int | None
    ray_address: str | None

    @property
    def is_distributed(self) -> bool:
        """Whether this is one of several processes, or has workers."""
        return self.shard is not None or uses_ray(self.workers, self.ray_address)

    def references(self) -> dict[str, str] | None:
        """The references by id; None without --refs."""
        if self.refs is not None:
            return dict(read_references(self.refs, ids=self.refs_ids))
        if self.refs_ids != "id":
            raise click.UsageError(
                "--refs-ids says which ids the file of --refs goes by; give --refs"
            )
        return None

    def output(self, template: str) -> str:
        """The output of this shard: `{shard}` and `{shards}` in the name become numbers."""
        return template if self.shard is None else self.shard.named(template)

    def evaluator(self, method: str, path: str, settings: DecoderOptions) -> MakeDecoderEvaluator:
        """Where chunks are evaluated: in this process, or in Ray workers."""
        if not uses_ray(self.workers, self.ray_address) or self.workers is None:
            return InProcess
        return decoder_pool(method, path, settings, self.workers, self.ray_address)


#: Add the options of a run; the command gets them as `run`, `RunOptions`.
run_options = collected(
    RunOptions,
    "run",
    [
        click.option(
            "--refs",
            type=click.Path(dir_okay=False),
            help="References to write into the lists (Kaldi text, .trn or .jsonl).",
        ),
        click.option(
            "--refs-ids",
            type=click.Choice(REFERENCE_IDS),
            default="id",
            show_default=True,
            help="Which ids of a lhotse file in --refs match FILE (docs/formats.md).",
        ),
        shard_option,
        *RAY_OPTIONS,
    ],
)
