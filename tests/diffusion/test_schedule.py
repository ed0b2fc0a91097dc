"""The noise schedule: clean at t = 0, and derivatives that are those of alpha."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rescore.diffusion.schedule import LINEAR, LogLinear
from rescore.errors import ScoreError

T = np.linspace(0, 1, 101)
SCHEDULES = [LINEAR, LogLinear(), LogLinear(0.2)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_zero_is_clean_and_alpha_falls(schedule):
    assert (schedule.alpha(0.0), schedule.noise(0.0)) == (1, 0)
    assert schedule.alpha(1.0) == schedule.eps
    assert np.all(np.diff(schedule.alpha(T)) < 0)
    assert schedule.alpha(T) + schedule.noise(T) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_derivative_is_that_of_alpha(schedule):
    inside, step = T[1:-1], 1e-4
    rise = schedule.alpha(inside + step) - schedule.alpha(inside - step)
    assert schedule.derivative(inside) == pytest.approx(rise / (2 * step), rel=1e-9)
    assert schedule.derivative(0.3) == schedule.eps - 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weight_of_the_masked_nelbo_is_one_over_t(schedule):
    assert schedule.weight(T[1:]) == pytest.approx(1 / T[1:], rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sigma_is_minus_log_alpha(schedule):
    assert schedule.sigma(T[:-1]) == pytest.approx(-np.log(schedule.alpha(T[:-1])), abs=1e-12)
    assert schedule.sigma(1.0) == pytest.approx(-math.log(schedule.eps) if schedule.eps else np.inf)


def test_small_noise_keeps_its_digits():
    assert LINEAR.noise(1e-20) == 1e-20
    assert LINEAR.sigma(1e-20) == 1e-20


@pytest.mark.parametrize("t", [-0.1, 1.1, np.array([0.5, 2.0])])
def test_times_outside_the_unit_interval_are_refused(t):
    for method in (LINEAR.alpha, LINEAR.derivative, LINEAR.noise, LINEAR.sigma, LINEAR.weight):
        with pytest.raises(ScoreError, match=r"t must lie in \[0, 1\]"):
            method(t)


@pytest.mark.parametrize("eps", [-0.1, 1.0])
def test_an_impossible_eps_is_refused(eps):
    with pytest.raises(ScoreError, match="eps must lie in"):
        LogLinear(eps)
