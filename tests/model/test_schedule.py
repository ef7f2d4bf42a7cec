"""Learning rates by hand."""

import math

import pytest

from phase_recon.model.schedule import Cosine, Step


def test_step_by_hand():
    rate = Step(initial=1e-3, interval=200, factor=0.5)
    expected = {0: 1e-3, 199: 1e-3, 200: 5e-4, 399: 5e-4, 400: 2.5e-4, 1000: 3.125e-5}
    assert {epoch: rate(epoch, 0.0) for epoch in expected} == pytest.approx(expected)
    assert rate(200, 0.9) == rate(200, 0.1)


def test_step_has_a_floor():
    rate = Step(initial=1e-3, interval=200, factor=0.5)
    assert rate(1400, 0.0) == pytest.approx(1e-3 / 128)  # 7.8e-6, still above it
    assert rate(1600, 0.0) == 5e-6  # 3.9e-6 would be below
    assert rate(100_000, 0.0) == 5e-6


def test_cosine_by_hand():
    rate = Cosine(initial=1e-2, final=2e-3)
    cosine_of_45_degrees = math.sqrt(0.5)
    expected = {
        0.0: 1e-2,
        0.25: 2e-3 + 4e-3 * (1 + cosine_of_45_degrees),
        0.5: 6e-3,
        0.75: 2e-3 + 4e-3 * (1 - cosine_of_45_degrees),
        1.0: 2e-3,
    }
    assert {progress: rate(7, progress) for progress in expected} == pytest.approx(expected)
    assert rate(0, 1.3) == pytest.approx(2e-3)  # past the end it stays
    assert rate(0, 0.4) == rate(900, 0.4)


def test_the_rate_rises_in_proportion_to_what_the_wave_is():
    plain, rising = Cosine(1e-2, 2e-3), Cosine(1e-2, 2e-3, warm_up=0.1)
    expected = {0.0: 0.0, 0.025: 0.25 * plain(0, 0.025), 0.05: 0.5 * plain(0, 0.05)}
    expected |= {share: plain(0, share) for share in (0.1, 0.5, 1.0)}
    assert {share: rising(7, share) for share in expected} == pytest.approx(expected)


def test_a_long_run_rises_in_the_share_of_its_first_wave_alone():
    """300 steps with a restart at 100: the rate is whole from step 10 on, not 30, and again at the restart."""
    plain, rising = Cosine(1e-2, 2e-3, restart=100), Cosine(1e-2, 2e-3, restart=100, warm_up=0.1)
    assert rising(5, 5 / 300) == pytest.approx(0.5 * plain(5, 5 / 300))
    assert [rising(epoch, epoch / 300) for epoch in (10, 100, 105)] == [
        plain(epoch, epoch / 300) for epoch in (10, 100, 105)
    ]


def test_a_run_shorter_than_the_restart_is_one_wave():
    once, again = Cosine(1e-2, 2e-3), Cosine(1e-2, 2e-3, restart=100)
    for steps in (10, 99, 100):
        for epoch in range(steps):
            assert again(epoch, epoch / steps) == once(epoch, epoch / steps)


def test_a_longer_run_begins_again_at_half_the_height():
    """300 steps: down to step 100, then from half of 1e-2 down to the end, halfway at step 200."""
    rate = Cosine(initial=1e-2, final=2e-3, restart=100)
    expected = {0: 1e-2, 50: 6e-3, 99: 2e-3 + 4e-3 * (1 - math.cos(math.pi / 100)), 100: 5e-3, 200: 3.5e-3, 300: 2e-3}
    assert {epoch: rate(epoch, epoch / 300) for epoch in expected} == pytest.approx(expected)


def test_a_run_that_ends_soon_after_the_restart_hardly_rises():
    """Of 110 steps the last ten begin at a tenth of half the height, or the final rate if that is more."""
    assert Cosine(1e-2, 1e-5, restart=100)(100, 100 / 110) == pytest.approx(5e-4)
    assert Cosine(1e-2, 2e-3, restart=100)(105, 105 / 110) == 2e-3
    assert Cosine(1e-2, 2e-3, restart=100)(100, 1.0) == 2e-3
