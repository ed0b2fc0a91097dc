"""`dlmrescore decode --calibrate`: reliability of prior-guided denoising, and the tau to use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rescore.cli.decode_grid import command_line
from rescore.cli.decode_options import RunOptions
from rescore.cli.options import write_json
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.calibration import Calibration, Example, calibrate
from rescore.decoding.prior_guided_method import Denoising, PriorGuidedDecoder
from rescore.errors import FormatError, ScoreError
from rescore.progress import progress_bar
from rescore.report.figures import BLUE, GREY, ORANGE, check_plot, new_figure, save_figure

__all__ = ["calibrate_file", "calibration_options"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _bound(context: click.Context, _parameter: click.Parameter, points: float) -> float | None:
    """The bound as a share of the words; None without --calibrate."""
    is_given = context.params.pop("calibrate")
    source = context.get_parameter_source("bound")
    if source is not click.core.ParameterSource.DEFAULT and not is_given:
        raise click.UsageError("--bound belongs to --calibrate; give both, or neither")
    return points / 100 if is_given else None


def calibration_options(command: _F) -> _F:
    """Add `--calibrate` and `--bound`; the command gets `bound`, None: it is not asked for."""
    command = click.option(
        "--bound",
        type=click.FloatRange(0),
        default=0.1,
        show_default=True,
        callback=_bound,
        help="Largest expected loss, in points of WER.",
    )(command)
    return click.option(
        "--calibrate",
        is_flag=True,
        is_eager=True,
        help="prior_guided: write as JSON how reliable its probabilities are on FILE and the "
        "lowest tau whose expected loss of WER is within --bound; beside it a PNG, the diagram.",
    )(command)


def calibrate_file(
    path: str,
    method: str,
    output: str,
    settings: DecoderOptions,
    bound: float,
    run: RunOptions,
) -> None:
    """Calibrate tau on a file with references; write and report the result."""
    if run.is_distributed:
        raise click.UsageError("--calibrate runs in one process: leave --shard and --ray out")
    if output == "-":
        raise click.UsageError("--calibrate writes a diagram beside its output: give -o")
    diagram = os.path.splitext(output)[0] + ".png"
    check_plot(diagram)
    if "tau" in settings.changed or "commit" in settings.changed:
        raise click.UsageError("--calibrate looks for a --tau: leave --tau and --commit out")
    decoder = load_decoder(method, path, settings)
    if not isinstance(decoder, PriorGuidedDecoder) or not isinstance(decoder.transcribe, Denoising):
        raise ScoreError("--calibrate belongs to --method prior_guided with a masked model")
    examples = _examples(decoder, run.references())
    calibration = calibrate(examples, decoder.guide, bound)
    chosen = None
    if calibration.tau is not None:
        chosen = command_line(method, settings, {"tau": calibration.tau})
    write_json({**calibration.to_json(), "command": chosen}, output)
    _draw(calibration, diagram)
    click.echo(_report(calibration, chosen), err=True)


def _examples(decoder: PriorGuidedDecoder, references: dict[str, str] | None) -> list[Example]:
    """Traces of all utterances. Raises FormatError for one without a reference."""
    texts = {
        id: condition.utterance.text if references is None else references.get(id)
        for id, condition in decoder.audio.items()
    }
    missing = [id for id, text in texts.items() if text is None]
    if missing or not any(text.split() for text in texts.values() if text is not None):
        raise FormatError(
            f"{decoder.path}: utterance {missing[0]}: there is no reference for it; give --refs"
            if missing
            else f"{decoder.path}: the references hold no words: no tau has an error rate"
        )
    examples = []
    with progress_bar(total=len(texts), description="calibrating", unit="utterances") as bar:
        for id, condition in decoder.audio.items():
            trace = decoder.transcribe.decided_last(condition)  # type: ignore[attr-defined]
            examples.append(Example(trace, texts[id] or ""))
            bar.update()
    return examples


def _report(calibration: Calibration, chosen: str | None) -> str:
    lines = ["  tau  expected loss   s.e.  early  changed"]
    lines += [
        f"{row.tau:5g}  {100 * row.loss:13.2f}  {100 * row.standard_error:5.2f}"
        f"  {row.early:5d}  {row.changed:7d}"
        for row in calibration.thresholds
    ]
    words, errors = calibration.words, calibration.errors
    lines.append(
        f"{calibration.utterances} utterances, {words} words, WER {100 * errors / words:.2f} % "
        f"where every token is decided last; expected calibration error {calibration.ece:.3f}"
    )
    bound = 100 * calibration.bound
    if chosen is None:
        lines.append(f"no tau has an expected loss within {bound:g} points; decide one a round")
    else:
        lines.append(f"expected loss within {bound:g} points: {chosen}")
    return "\n".join(lines)


def _draw(calibration: Calibration, path: str) -> None:
    """The reliability diagram, with the share of choices in each part, and tau."""
    figure, axes = new_figure(5, 4.4)
    total = sum(part.choices for part in calibration.bins)
    for part in calibration.bins:
        width = part.high - part.low
        axes.bar(
            part.low, part.choices / total, width, align="edge", color=GREY, alpha=0.3, linewidth=0
        )
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="as probable as it says")
    axes.plot(
        [part.confidence for part in calibration.bins],
        [part.right for part in calibration.bins],
        marker="o",
        color=BLUE,
        label="share that is right (bars: of all choices)",
    )
    if calibration.tau is not None:
        label = f"tau {calibration.tau:g}"
        axes.axvline(calibration.tau, color=ORANGE, linestyle="--", linewidth=1, label=label)
    axes.set_xlabel("probability of a choice")
    axes.set_ylabel("share")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    save_figure(figure, path)
