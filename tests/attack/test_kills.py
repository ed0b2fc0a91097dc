"""A sample of the kill loops: killed at a step on disk or by a signal, and run again."""

from __future__ import annotations

import random

import pytest
from kill_loop import Victim
from small_commands import CASES


@pytest.fixture
def victim(forks, tmp_path):
    def make(name):
        return Victim(name, CASES[name], forks, tmp_path)

    return make


@pytest.mark.parametrize(
    ("name", "share"),
    [("convert to a directory", 8), ("fuse", 8), ("score with a cache", 16), ("train ngram", 12)],
)
def test_a_command_that_is_killed_at_a_step_on_disk_ends_with_the_same_bytes(victim, name, share):
    killed = victim(name)
    steps = sorted({*range(1, killed.steps, share), killed.steps - 1, killed.steps})
    for step in steps:
        killed.kill_at_step(step)
    assert killed.tally.faults == []
    assert killed.tally.kills == len(steps)


@pytest.mark.parametrize("name", ["convert", "lattice", "score", "tune"])
def test_a_command_that_is_ended_by_signals_ends_with_the_same_bytes(victim, name):
    killed, chance = victim(name), random.Random(3)
    while killed.tally.kills < 5:
        killed.kill_at_random(chance)
    assert killed.tally.faults == []
