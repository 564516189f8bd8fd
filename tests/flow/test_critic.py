"""Chunk returns, the Bellman target and the critic loss, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rllib_fmq.flow import bellman_target, chunk_return, critic_loss
from rllib_fmq.flow.critic import aggregate

GAMMA = 0.9


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("terminated", "returns", "bootstrap"),
    [
        ([False, False, False], 1.0 + 0.9 * 2.0 + 0.81 * 4.0, 0.729),
        ([False, False, True], 1.0 + 0.9 * 2.0 + 0.81 * 4.0, 0.0),
        ([False, True, False], 1.0 + 0.9 * 2.0, 0.0),
        ([True, False, False], 1.0, 0.0),
        ([False, True, True], 1.0 + 0.9 * 2.0, 0.0),
    ],
)
def test_chunk_return_stops_at_a_termination(terminated, returns, bootstrap):
    rewards = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    total, factor = chunk_return(rewards, torch.tensor([terminated]), GAMMA)
    assert total.shape == factor.shape == (1,)
    assert total.item() == pytest.approx(returns, rel=1e-14)
    assert factor.item() == pytest.approx(bootstrap, rel=1e-14)


def test_rows_of_a_batch_are_independent():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]], dtype=torch.float64)
    terminated = torch.tensor([[True, False, False], [False, False, False]])
    total, factor = chunk_return(rewards, terminated, GAMMA)
    torch.testing.assert_close(total, double(1.0, 6.04))
    torch.testing.assert_close(factor, double(0.0, 0.729))


@pytest.mark.parametrize(("gamma", "returns", "bootstrap"), [(0.0, 1.0, 0.0), (1.0, 7.0, 1.0)])
def test_extreme_discounts(gamma, returns, bootstrap):
    rewards = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    total, factor = chunk_return(rewards, torch.zeros(1, 3, dtype=torch.bool), gamma)
    assert (total.item(), factor.item()) == (returns, bootstrap)


def test_a_chunk_of_one_step_is_the_ordinary_target():
    rewards = torch.tensor([[-1.0], [-1.0]], dtype=torch.float64)
    returns, bootstrap = chunk_return(rewards, torch.tensor([[False], [True]]), GAMMA)
    target = bellman_target(returns, bootstrap, torch.tensor([[10.0, 10.0]] * 2).double(), "min")
    torch.testing.assert_close(target, double(-1.0 + 0.9 * 10.0, -1.0))


def test_truncation_bootstraps_and_termination_does_not():
    """A truncated window carries no terminated flag; its last next-state has a value."""
    rewards = torch.tensor([[1.0, 2.0, 4.0]] * 2, dtype=torch.float64)
    terminated = torch.tensor([[False, False, False], [False, False, True]])
    returns, bootstrap = chunk_return(rewards, terminated, GAMMA)
    target_q = torch.tensor([[5.0, 5.0], [3.0, 3.0]], dtype=torch.float64)
    target = bellman_target(returns, bootstrap, target_q, "min")
    torch.testing.assert_close(target, double(6.04 + 0.729 * 3.0, 6.04))


def test_aggregation_over_the_target_critics():
    target_q = torch.tensor([[5.0, -2.0], [3.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(aggregate(target_q, "min"), double(3.0, -2.0))
    torch.testing.assert_close(aggregate(target_q, "mean"), double(4.0, 1.0))
    returns, bootstrap = double(1.0, 1.0), double(0.5, 0.5)
    torch.testing.assert_close(
        bellman_target(returns, bootstrap, target_q, "min"), double(2.5, 0.0)
    )
    torch.testing.assert_close(
        bellman_target(returns, bootstrap, target_q, "mean"), double(3.0, 1.5)
    )


def test_target_carries_no_gradient():
    target_q = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(3, dtype=torch.float64)
    assert not bellman_target(ones, ones, target_q, "min").requires_grad


def test_critic_loss_by_hand_sums_critics_and_masks_windows():
    q_values = torch.tensor([[1.0, 2.0, 50.0, 0.0], [3.0, 0.0, -50.0, 1.0]], dtype=torch.float64)
    q_values.requires_grad_(True)
    target, weight = double(2.0, 2.0, 0.0, 0.0), double(1.0, 1.0, 0.0, 1.0)
    loss = critic_loss(q_values, target, weight)
    first, second = (1.0 + 0.0 + 0.0) / 4.0, (1.0 + 4.0 + 1.0) / 4.0
    assert loss.item() == pytest.approx(first + second, rel=1e-14)
    loss.backward()
    expected = torch.tensor([[-0.5, 0.0, 0.0, 0.0], [0.5, -1.0, 0.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(q_values.grad, expected)
