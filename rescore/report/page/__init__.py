"""The HTML page: what changed, utterance by utterance, in one file that needs no network.

Reading order: `sources.py` (a folder of `run`, or lists), `utterances.py` (what the page keeps of
each list), `calibration.py`, `charts.py` (inline SVG), `rendering.py` (templates, pages).
"""

from rescore.report.page.rendering import write_report
from rescore.report.page.sources import Shown, Source, source_of_folder, source_of_lists

__all__ = ["Shown", "Source", "source_of_folder", "source_of_lists", "write_report"]
