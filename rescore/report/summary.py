"""An evaluation in words: rates in percent, with what they are compared with."""

from __future__ import annotations

from rescore.wer import UNIT_NAMES, Comparison, Evaluation

__all__ = ["comparison_details", "comparison_in_words", "evaluation_summary"]

#: The probability from which a difference is called sure.
_SURE = 0.95


def evaluation_summary(result: Evaluation) -> str:
    """A few lines of up to 80 columns: rate, interval, errors, oracle, gains."""
    name = "WER" if result.unit == "word" else "CER"
    errors, (low, high) = result.errors, result.ci95
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f}"
    size = f"{result.utterances} utterances, {errors.reference_words} {UNIT_NAMES[result.unit]}"
    kinds = f"{errors.substitutions} substitutions, {errors.insertions} insertions"
    lines = [
        f"{name} {_percent(result.wer)}, {interval} ({size})",
        f"{errors.errors} errors: {kinds}, {errors.deletions} deletions",
        f"oracle of the lists: {_percent(result.oracle_wer)}",
    ]
    for comparison, other in ((result.first_pass, "the first pass"), (result.comparison, None)):
        if comparison is not None:
            words = comparison_in_words(comparison, result.wer, other or "the baseline")
            lines += [f"It {words}", f"  {comparison_details(comparison)}"]
    return "\n".join(lines)


def comparison_details(comparison: Comparison) -> str:
    """The interval of the gain, and the share of the gap to the oracle that it closes."""
    low, high = comparison.reduction_ci95
    interval = f"gain between {100 * low:.2f} and {100 * high:.2f} points (95 %)"
    if comparison.oracle_gap_closed is None:
        return interval
    return f"{interval}, {round(100 * comparison.oracle_gap_closed)} % of the gap to the oracle"


def comparison_in_words(comparison: Comparison, wer: float, other: str) -> str:
    """What a system with error rate `wer` gains or loses against `other`, and how surely."""
    points = round(100 * comparison.absolute_reduction, 2)
    rates = f"({_percent(comparison.baseline_wer)} to {_percent(wer)})"
    if points == 0:
        return f"makes as many errors as {other} {rates}"
    better = comparison.probability_better
    verb, probability = ("gains", better) if points > 0 else ("loses", 1 - better)
    chance = "" if probability >= _SURE else ": it may be chance"
    over = "over" if points > 0 else "against"
    return (
        f"{verb} {abs(points):.2f} points {over} {other} {rates}, "
        f"probability {probability:.3f}{chance}"
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
