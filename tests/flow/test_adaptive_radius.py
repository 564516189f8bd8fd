"""The radius of Eq. 13, by hand and as a property."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.flow import adaptive_radius, critic_disagreement

ROOT2 = 2.0**0.5
Q_VALUES = torch.tensor([[1.0, 2.0, 7.0], [1.0, 4.0, 3.0]], dtype=torch.float64)


def test_equation_13_by_hand_on_three_samples():
    """|Q_1 - Q_2| = 0, 2, 4; over sqrt(2), and over their mean sqrt(2): 0, 1, 2."""
    delta = critic_disagreement(Q_VALUES)
    torch.testing.assert_close(delta, torch.tensor([0.0, ROOT2, 2 * ROOT2]).double())
    radius = adaptive_radius(delta, delta.mean(), eta=0.5, beta=0.3, disagreement_eps=0.0)
    expected = torch.tensor([[0.5], [0.5 / 1.3], [0.5 / 1.6]], dtype=torch.float64)
    torch.testing.assert_close(radius, expected)


def test_stability_constant_by_hand():
    delta = torch.tensor([1.0, 3.0], dtype=torch.float64)
    radius = adaptive_radius(delta, delta.mean(), eta=1.0, beta=1.0, disagreement_eps=2.0)
    expected = torch.tensor([[1 / 1.25], [1 / 1.75]], dtype=torch.float64)
    torch.testing.assert_close(radius, expected)


def test_critics_in_agreement_give_the_full_radius():
    delta = torch.zeros(4, dtype=torch.float64)
    radius = adaptive_radius(delta, delta.mean(), eta=0.7, beta=0.3)
    assert torch.equal(radius, torch.full((4, 1), 0.7, dtype=torch.float64))


def test_beta_zero_is_the_fixed_radius():
    delta = critic_disagreement(Q_VALUES)
    assert (adaptive_radius(delta, delta.mean(), eta=0.7, beta=0.0) == 0.7).all()


def test_numerator_replaces_eta():
    """Eq. 13 prints 1 where Alg. 1 prints eta; at eta = 1 they are equal."""
    delta = critic_disagreement(Q_VALUES)
    mean = delta.mean()
    printed = adaptive_radius(delta, mean, eta=0.5, beta=0.3, numerator=1.0)
    torch.testing.assert_close(printed, 2.0 * adaptive_radius(delta, mean, eta=0.5, beta=0.3))
    assert torch.equal(printed, adaptive_radius(delta, mean, eta=1.0, beta=0.3))


def test_shards_with_the_global_mean_are_the_joined_batch():
    delta = critic_disagreement(Q_VALUES)
    joined = adaptive_radius(delta, delta.mean(), eta=0.5, beta=0.3)
    shards = [adaptive_radius(part, delta.mean(), eta=0.5, beta=0.3) for part in delta.split(2)]
    assert torch.equal(torch.cat(shards), joined)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20),
    st.floats(1e-3, 10.0),
    st.floats(0.0, 10.0),
)
def test_radius_is_in_range_and_falls_with_disagreement(deltas, eta, beta):
    delta = torch.tensor(deltas, dtype=torch.float64).sort().values
    radius = adaptive_radius(delta, delta.mean(), eta=eta, beta=beta)
    assert radius.shape == (len(deltas), 1)
    assert (radius > 0.0).all() and (radius <= eta).all()
    assert (radius.diff(dim=0) <= 0.0).all()


def test_radius_falls_strictly_where_disagreement_rises():
    delta = torch.linspace(0.0, 3.0, 10, dtype=torch.float64)
    radius = adaptive_radius(delta, delta.mean(), eta=1.0, beta=0.3)
    assert (radius.diff(dim=0) < 0.0).all()


def test_disagreement_of_two_critics_is_their_sample_standard_deviation():
    torch.testing.assert_close(critic_disagreement(Q_VALUES), Q_VALUES.std(dim=0))


def test_disagreement_of_more_critics():
    q_values = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    expected = ((4.0 + 1.0 + 9.0) / 2.0) ** 0.5
    assert critic_disagreement(q_values).item() == pytest.approx(expected)
