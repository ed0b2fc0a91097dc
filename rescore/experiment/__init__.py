"""The whole experiment: score lists, tune on dev, evaluate on test, write a table and plots.

`dlmrescore run` is this. Everything goes into one folder, which belongs to one experiment. A run
that was killed resumes from the journals of its scores and ends with the same files; only the
seconds that it reports are measured.

Reading order: `options.py` (what is run), `running.py` (the steps), `inputs.py` (lists, and what is
refused), `folder.py` (whose folder it is), `scoring.py`, `results.py`.
"""

from rescore.experiment.options import FAST, FAST_DEPTH, SCORERS, Inputs, Options, Workplace
from rescore.experiment.results import Results
from rescore.experiment.running import run, run_experiment

__all__ = [
    "FAST",
    "FAST_DEPTH",
    "SCORERS",
    "Inputs",
    "Options",
    "Results",
    "Workplace",
    "run",
    "run_experiment",
]
