"""Pairs of flow times and the curriculum that widens them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.flow import interval_factor, time_pair

UNIT = st.floats(0.0, 1.0)
PAIRS = st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=8)
DTYPES = st.sampled_from([torch.float32, torch.float64])


@settings(deadline=None)
@given(PAIRS, UNIT, DTYPES)
def test_pair_is_ordered_in_range_and_shrunk_about_its_midpoint(pairs, factor, dtype):
    uniforms = torch.tensor(pairs, dtype=dtype)
    r, t = time_pair(uniforms, factor)
    assert r.shape == t.shape == (len(pairs), 1)
    assert (r >= 0).all() and (r <= t).all() and (t <= 1).all()
    close = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close((r + t).squeeze(1), uniforms.sum(dim=1), **close)
    width = factor * (uniforms[:, 0] - uniforms[:, 1]).abs()
    torch.testing.assert_close((t - r).squeeze(1), width, **close)


@settings(deadline=None)
@given(PAIRS, DTYPES)
def test_factor_zero_gives_the_diagonal_exactly(pairs, dtype):
    r, t = time_pair(torch.tensor(pairs, dtype=dtype), 0.0)
    assert torch.equal(r, t)


@settings(deadline=None)
@given(PAIRS, DTYPES)
def test_factor_one_gives_the_sorted_pair(pairs, dtype):
    uniforms = torch.tensor(pairs, dtype=dtype)
    found = torch.cat(time_pair(uniforms, 1.0), dim=1)
    close = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(found, uniforms.sort(dim=1).values, **close)


def test_factor_may_be_a_tensor():
    uniforms = torch.tensor([[0.9, 0.1], [0.2, 0.6]], dtype=torch.float64)
    expected = torch.cat(time_pair(uniforms, 0.25), dim=1)
    torch.testing.assert_close(expected[0], torch.tensor([0.4, 0.6], dtype=torch.float64))
    for factor in (torch.tensor(0.25), torch.full((2, 1), 0.25, dtype=torch.float64)):
        torch.testing.assert_close(torch.cat(time_pair(uniforms, factor), dim=1), expected)


def test_pair_has_the_law_of_ordered_uniforms():
    """Density 2 on r < t: means 1/3 and 2/3, E[r t] = 1/4."""
    uniforms = torch.rand(
        200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    r, t = time_pair(uniforms)
    assert r.mean().item() == pytest.approx(1 / 3, abs=3e-3)
    assert t.mean().item() == pytest.approx(2 / 3, abs=3e-3)
    assert (r * t).mean().item() == pytest.approx(1 / 4, abs=3e-3)


@pytest.mark.parametrize(
    ("num_updates", "expected"),
    [
        (0, 0.0),
        (4_999, 0.0),
        (5_000, 0.0),
        (5_001, 1 / 45_000),
        (27_500, 0.5),
        (49_999, 44_999 / 45_000),
        (50_000, 1.0),
        (1_000_000, 1.0),
    ],
)
def test_schedule_of_the_paper(num_updates, expected):
    assert interval_factor(num_updates, 5_000, 50_000) == pytest.approx(expected, abs=1e-15)


def test_schedule_without_warmup_or_annealing():
    assert interval_factor(0, 0, 100) == 0.0
    assert interval_factor(0, 0, 0) == 1.0
    assert [interval_factor(n, 10, 10) for n in (9, 10, 11)] == [0.0, 1.0, 1.0]


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 300))
def test_schedule_never_falls_and_stays_in_range(warmup, span, num_updates):
    now = interval_factor(num_updates, warmup, warmup + span)
    later = interval_factor(num_updates + 1, warmup, warmup + span)
    assert 0.0 <= now <= later <= 1.0


def test_schedule_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match=r"interval_anneal_end=4 .*diagonal_warmup_updates=5"):
        interval_factor(0, 5, 4)
