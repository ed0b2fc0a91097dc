"""What a table of systems says, in words: which system to use, and how sure test is of it."""

from __future__ import annotations

from rescore.report.summary import comparison_in_words
from rescore.report.systems import System

__all__ = ["verdict"]


def verdict(chosen: System, first: System, keep: float) -> str:
    """One sentence or two: the system that dev chose, and what it does on test.

    `first` is the first pass, `keep` the probability that the guard asked for. The choice is made
    on dev, so that the figures of test are not the best of several.
    """
    if chosen.verdict is None:
        return (
            f"Verdict: nothing beats the first pass on dev with probability {keep:g}. Keep it: "
            f"{100 * first.test.wer:.2f} % on test."
        )
    compared = chosen.test.first_pass
    sentence = f"Verdict: use {chosen.name.removeprefix('+ ')} (chosen on dev)."
    if compared is not None:
        words = comparison_in_words(compared, chosen.test.wer, "the first pass")
        sentence += f" On test it {words}."
        if compared.probability_better < 0.5:
            sentence += " Dev misled: do not use it before you know why."
    if chosen.test.comparison is not None:
        retuned = "the retuned recogniser"
        words = comparison_in_words(chosen.test.comparison, chosen.test.wer, retuned)
        sentence += f" It {words}."
    return sentence
