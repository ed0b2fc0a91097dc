"""Tests of the scripts in recipes/, which import each other from their own folder."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "recipes" / "spoken_books")]
