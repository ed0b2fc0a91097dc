"""Tests of the scripts in recipes/, which import each other from their own folder."""

import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path[:0] = [str(RECIPES / name) for name in ("spoken_books", "joint", "dllm", "decoders")]
