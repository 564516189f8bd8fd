"""The model of scaling: against sums done by hand, and against the product's own schedule."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import pytest

from benchmarks.scaling.measure import undisturbed
from benchmarks.scaling.model import (
    PARTS,
    Line,
    Pieces,
    Setup,
    alone,
    bottleneck,
    knee,
    runner_seconds,
    simulate,
    update_seconds,
)
from rllib_fmq.rollout import sampling
from tests.algorithms.test_overlap import ROUND, Simulated

BUSY = Pieces(
    env_step=0.02,
    vector_step=Line(0.01, 0.005),
    plan=((1, 0.02), (4, 0.05)),
    horizon=5,
    sample=0.3,
    request=0.01,
    answer=Line(0.02, 0.001),
    store=Line(0.01, 0.002),
    call=0.05,
    update=0.004,
    publish=0.03,
    load_weights=0.04,
)
SETUP = Setup(runners=4, envs=2, fragment=10)
COLLECT = 10 * (2 * 0.02 + 0.02 + 0.03 / 5) + 0.3 + 0.04
REQUESTS, ANSWERS = 4 * 0.01, 4 * 0.04
LEARN = 0.05 + 4 * 0.05 + 80 * 0.004 + 0.03
"""80 steps a round, one update each."""


def seconds(pieces: Pieces, setup: Setup) -> float:
    return simulate(pieces, setup).round_seconds


def test_a_runner_takes_its_steps_its_plans_and_the_request() -> None:
    assert runner_seconds(BUSY, SETUP) == pytest.approx(COLLECT - 0.04)
    assert alone(BUSY, SETUP) == pytest.approx(80 / (COLLECT - 0.04))


def test_planning_is_linear_between_and_beyond_what_is_known() -> None:
    assert BUSY.plan_seconds(2.5) == pytest.approx(0.035)
    assert BUSY.plan_seconds(8) == pytest.approx(0.1)


def test_without_lag_everything_adds_up() -> None:
    expected = REQUESTS + COLLECT + ANSWERS + LEARN
    assert seconds(BUSY, replace(SETUP, lag=0)) == pytest.approx(expected)


@pytest.mark.parametrize("update", [0.001, 0.004, 0.02])
def test_lag_1_hides_the_shorter_of_collection_and_learning(update: float) -> None:
    learn = LEARN + 80 * (update - 0.004)
    # The last runner is asked last: it begins as the driver turns to learning.
    expected = REQUESTS + max(COLLECT, learn) + ANSWERS
    assert seconds(replace(BUSY, update=update), SETUP) == pytest.approx(expected)


def test_lag_2_hides_the_driver_too() -> None:
    assert seconds(BUSY, replace(SETUP, lag=2)) == pytest.approx(COLLECT)
    slow = replace(BUSY, update=0.02)
    expected = REQUESTS + ANSWERS + LEARN + 80 * 0.016
    assert seconds(slow, replace(SETUP, lag=2)) == pytest.approx(expected)


def test_shares_are_of_the_round() -> None:
    outcome = simulate(BUSY, SETUP)
    length = REQUESTS + COLLECT + ANSWERS
    assert outcome.collecting == pytest.approx(COLLECT / length)
    assert outcome.updating == pytest.approx(80 * 0.004 / length)
    assert outcome.serving == pytest.approx((REQUESTS + ANSWERS + LEARN - 0.32) / length)
    assert outcome.waiting == pytest.approx((COLLECT - LEARN) / length)


def test_updates_are_those_owed() -> None:
    outcome = simulate(replace(BUSY, update=1.0), replace(SETUP, utd=0.013), rounds=400)
    assert outcome.updating * outcome.round_seconds / 80 == pytest.approx(0.013, rel=0.01)
    none = simulate(BUSY, replace(SETUP, utd=0.0, lag=0))
    # No new version: none is published, and none taken over.
    expected = REQUESTS + COLLECT - 0.04 + ANSWERS + LEARN - 0.35
    assert none.round_seconds == pytest.approx(expected)


def test_rllib_searches_all_requests_for_each_answer_and_the_network_takes_its_time() -> None:
    setup = replace(SETUP, lag=0)
    slow = replace(BUSY, lookup=0.001, step_bytes=100, weight_bytes=1e6)
    network = replace(setup, bandwidth=1e6, runners_per_node=1.5)
    expected = seconds(BUSY, setup) + 16 * 0.001 + 80 * 100 / 1e6 + 3.0
    assert seconds(slow, network) == pytest.approx(expected)


def test_learners_average_gradients_in_a_ring() -> None:
    pieces = Pieces(update=0.01, gradient_bytes=4e6)
    links = {"learner_bandwidth": 1e9, "learner_latency": 1e-4}
    assert update_seconds(pieces, Setup(1, learners=0, **links)) == 0.01
    assert update_seconds(pieces, Setup(1, learners=1, **links)) == 0.01
    expected = 0.01 + 2 * 3 / 4 * 4e-3 + 6e-4
    assert update_seconds(pieces, Setup(1, learners=4, **links)) == pytest.approx(expected)


def test_fragments_go_through_the_object_store_to_learners_in_other_processes() -> None:
    pieces, setup = replace(BUSY, hand_over=Line(0.1)), replace(SETUP, lag=0)
    more = seconds(pieces, replace(setup, learners=1)) - seconds(pieces, setup)
    assert more == pytest.approx(4 * 0.1)


def test_cores_that_are_shared_bound_what_can_be_done() -> None:
    two = replace(SETUP, cores=2)
    work = 4 * COLLECT + REQUESTS + ANSWERS + LEARN
    assert seconds(BUSY, two) == pytest.approx(work / 2)
    waits = replace(BUSY, env_step=0.0, env_wait=0.02)
    assert seconds(waits, two) == pytest.approx((work - 4 * 20 * 0.02) / 2)


def test_waiting_for_the_slowest_costs_more_the_more_there_are() -> None:
    def share(runners: int, lag: int) -> float:
        setup = Setup(runners, spread=0.1, lag=lag)
        pieces = Pieces(env_wait=0.1)
        return simulate(pieces, setup, rounds=100).steps_per_second / alone(pieces, setup)

    assert share(1, 1) == pytest.approx(1.0, abs=0.03)
    # The greatest of 100 normal numbers is 2.5 on average.
    assert share(100, 1) == pytest.approx(1 / 1.25, abs=0.02)
    assert share(100, 1) < share(100, 4) < 1.0


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("update", [0.001, 0.05, 0.1])
def test_the_schedule_is_that_of_the_product(
    monkeypatch: pytest.MonkeyPatch, lag: int, update: float
) -> None:
    monkeypatch.setattr(sampling.ray, "get", lambda reference: reference)
    algo = Simulated(lag=lag, step_seconds=0.1, update_seconds=update)
    algo.run()
    setup = Setup(runners=2, fragment=ROUND // 2, lag=lag)
    pieces = Pieces(env_wait=0.1, update=update)
    whole = simulate(pieces, setup).round_seconds * 4_000 / ROUND
    # Its first 100 steps owe no updates, and its last rounds are followed by none.
    assert algo.clock.now == pytest.approx(whole, rel=0.03)


def test_the_bottleneck_moves_from_the_environment_to_updates_to_the_driver() -> None:
    pieces = Pieces(env_wait=0.1, request=1e-3, answer=Line(1e-3), update=1e-3)
    assert bottleneck(pieces, Setup(runners=10)) == "environment"
    assert bottleneck(pieces, Setup(runners=1_000)) == "update"
    assert bottleneck(pieces, Setup(runners=10_000, utd=0.001)) == "driver"


def test_knee() -> None:
    pieces = Pieces(env_wait=0.1, update=1e-3)
    # So many runners keep the learner busy: then 100 / 85 % of them still have 85 % to do.
    assert knee(pieces, Setup(1), share=0.85) == int(100 / 0.85)
    assert knee(pieces, Setup(1), share=0.85, most=50) == 50
    assert knee(pieces, Setup(1, utd=1_000), share=0.5) == 0


def test_a_line_through_two_points() -> None:
    assert Line.through((10, 3.0), (30, 7.0)) == (1.0, 0.2)
    assert Line.through((10, 3.0), (30, 2.0)) == (3.0, 0.0)
    assert Line.through((10, 1.0), (30, 7.0)) == (0.0, 0.3)
    assert Line(1.0, 0.2)(10) == 3.0


def test_every_piece_belongs_to_a_part() -> None:
    names = [name for part in PARTS.values() for name in part]
    assert sorted([*names, "horizon"]) == sorted(field.name for field in fields(Pieces))


def test_a_loaded_machine_slows_what_needs_a_core() -> None:
    slowed = replace(BUSY, env_wait=0.1).slowed(driver=2.0, runner=3.0)
    assert (slowed.env_wait, slowed.update) == (0.1, 0.008)
    assert slowed.env_step == pytest.approx(0.06)
    assert slowed.answer == (0.04, 0.002)
    assert slowed.plan == ((1, pytest.approx(0.06)), (4, pytest.approx(0.15)))


@pytest.mark.parametrize(
    "wrong", [{"runners": 0}, {"lag": -1}, {"bandwidth": 0}, {"spread": float("nan")}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*expected"):
        Setup(**{"runners": 1} | wrong)


def test_the_clock_counts_waiting_but_not_the_lack_of_a_core() -> None:
    start = undisturbed()
    time.sleep(0.02)
    assert 0.015 < undisturbed() - start < 0.2
