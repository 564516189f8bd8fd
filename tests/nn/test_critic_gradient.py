"""The critics' gradient backwards by hand, and the stacked layer's, against autograd."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_fmq.flow.bound_policy import take
from rllib_fmq.flow.critic import aggregate
from rllib_fmq.nn.critic_ensemble import CriticEnsemble, stacked_linear
from rllib_fmq.nn.critic_gradient import action_gradient, critic_values
from rllib_fmq.nn.network_policy import NetworkPolicy
from rllib_fmq.nn.network_views import NetworkViews, critic_views
from rllib_fmq.nn.velocity_field import VelocityField
from tests.nn.straightforward import relative_difference, shake_

OBS_DIM, SIZE, COUNT = 5, 6, 9
EXACT = {"rtol": 1e-10, "atol": 1e-13}


def make(gelu: str = "tanh", num_critics: int = 2, hidden: tuple[int, ...] = (16, 24)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critics = CriticEnsemble(OBS_DIM, SIZE, hidden, num_critics, gelu)
    shake_(critics, torch.Generator().manual_seed(1))
    return critics.double()


def normal(*shape: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def total_gradient(
    critics: CriticEnsemble, obs: Tensor, actions: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor]:
    """Values of the first members, as many as ``cotangent`` has rows, and the gradient by hand."""
    values, parts = [], []
    inputs = torch.cat([obs, actions], dim=-1)
    with torch.no_grad():
        views = critic_views(critics, OBS_DIM)[: len(cotangent)]
        for critic, share in zip(views, cotangent, strict=True):
            q, tape = critic_values(critic, inputs, critics.gelu)
            values.append(q)
            parts.append(action_gradient(critic, tape, share, critics.gelu))
    return torch.stack(values), torch.stack(parts).sum(dim=0)


@pytest.mark.parametrize("gelu", ["tanh", "none"])
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("hidden", [(16,), (16, 24), (8, 8, 8, 8)])
@pytest.mark.parametrize("compiles", [False, True])
def test_action_gradient(gelu, members, hidden, compiles):
    critics = make(gelu, 3, hidden)
    obs, actions, cotangent = normal(COUNT, OBS_DIM), normal(COUNT, SIZE), normal(members, COUNT)
    point = actions.clone().requires_grad_()
    expected_q = critics(obs, point)[:members]
    (expected,) = torch.autograd.grad((expected_q * cotangent).sum(), point)
    with patch.object(torch.compiler, "is_compiling", lambda: compiles):
        q, found = total_gradient(critics, obs, actions, cotangent)
    torch.testing.assert_close(q, expected_q.detach(), **EXACT)
    torch.testing.assert_close(found, expected, **EXACT)
    assert all(p.grad is None for p in critics.parameters())


@settings(deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=2 * COUNT))
def test_gradient_at_some_rows(chosen):
    """In any order, repeated or not."""
    critics, index = make(), torch.tensor(chosen)
    inputs, cotangent = normal(COUNT, OBS_DIM + SIZE), normal(COUNT, seed=4)
    with torch.no_grad():
        critic = critic_views(critics, OBS_DIM)[1]
        _, tape = critic_values(critic, inputs, critics.gelu)
        everywhere = action_gradient(critic, tape, cotangent, critics.gelu)
        kept = [saved.rows(index) for saved in tape]
        found = action_gradient(critic, kept, cotangent[index], critics.gelu)
    torch.testing.assert_close(found, everywhere[index], **EXACT)


@pytest.mark.parametrize("compiles", [False, True])
def test_single_precision_at_the_papers_depth(compiles):
    critics = make(hidden=(64, 64, 64, 64)).float()
    obs, actions = normal(256, OBS_DIM).float(), normal(256, SIZE, seed=3).float()
    point = actions.clone().requires_grad_()
    expected_q = critics(obs, point)
    (expected,) = torch.autograd.grad(expected_q[0].sum(), point)
    with patch.object(torch.compiler, "is_compiling", lambda: compiles):
        q, found = total_gradient(critics, obs, actions, torch.ones(1, 256))
    assert relative_difference(found, expected) <= 1e-5
    assert relative_difference(q[0], expected_q[0].detach()) <= 1e-5


# --- As selectors ask for it ---------------------------------------------------------------


def make_policy(critics: CriticEnsemble, obs: Tensor, how: str) -> NetworkPolicy:
    with torch.random.fork_rng():
        actor = VelocityField(OBS_DIM, SIZE, (8,)).double()
    return NetworkPolicy(NetworkViews(actor, critics, OBS_DIM), obs, how)


def autograds(critics: CriticEnsemble, obs: Tensor, a: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Scores (N, C) and their gradients (N, C, A)."""
    point = a.clone().requires_grad_()
    tiled = obs.repeat_interleave(a.shape[1], dim=0)
    scores = aggregate(critics(tiled, point.flatten(0, 1)), how)
    (gradient,) = torch.autograd.grad(scores.sum(), point)
    return scores.detach().view(a.shape[:2]), gradient


@pytest.mark.parametrize("how", ["min", "mean"])
@pytest.mark.parametrize("num_critics", [1, 2, 3])
def test_score_for_step(how, num_critics):
    critics, obs, a = make(num_critics=num_critics), normal(4, OBS_DIM), normal(4, 7, SIZE, seed=3)
    expected_scores, expected = autograds(critics, obs, a, how)
    index = torch.tensor([[3, 0], [6, 5], [1, 1], [0, 2]])
    with torch.no_grad():
        scores, gradient_at = make_policy(critics, obs, how).score_for_step(a)
        found = gradient_at(index)
    torch.testing.assert_close(scores, expected_scores, **EXACT)
    torch.testing.assert_close(found, take(expected, index), **EXACT)


@pytest.mark.parametrize("how", ["min", "mean"])
@pytest.mark.parametrize("num_critics", [2, 3])
def test_score_for_step_where_critics_tie(how, num_critics):
    """At a tie of two critics with different gradients, half of each counts, as autograd has it.

    The second critic is the first with two numbers of the chunk exchanged, so both have the same
    value, to the last bit, where these numbers are equal: everything is a multiple of 1/8 there.
    """
    critics = make(num_critics=num_critics)
    with torch.no_grad():
        critics.weights[0].copy_((8.0 * critics.weights[0]).round() / 8.0)
        critics.biases[0].copy_((8.0 * critics.biases[0]).round() / 8.0)
        for parameter in critics.parameters():
            parameter[1] = parameter[0]
        first, second = OBS_DIM, OBS_DIM + 1
        critics.weights[0][1][:, [first, second]] = critics.weights[0][0][:, [second, first]]
        if num_critics == 3:  # a critic far above plays no part in the minimum
            critics.biases[-1][2] += 100.0
    obs = (8.0 * normal(4, OBS_DIM)).round() / 8.0
    a = (8.0 * normal(4, 6, SIZE, seed=3)).round() / 8.0
    a[..., 1] = a[..., 0]
    a[:, 1::2, 1] += 1.0
    q = critics(obs.repeat_interleave(6, dim=0), a.flatten(0, 1)).view(num_critics, 4, 6)
    assert (q[0, :, ::2] == q[1, :, ::2]).all()
    assert (q[0, :, 1::2] != q[1, :, 1::2]).all()
    index = torch.tensor([[0, 1, 2, 3, 4, 5]]).expand(4, -1)
    _, expected = autograds(critics, obs, a, how)
    one = autograds(critics, obs, a, "mean")[1]
    if how == "min" and num_critics == 2:  # half of each, where they tie, and only there
        torch.testing.assert_close(expected[:, ::2], one[:, ::2], **EXACT)
        assert not torch.allclose(expected[:, 1::2], one[:, 1::2])
    with torch.no_grad():
        _, gradient_at = make_policy(critics, obs, how).score_for_step(a)
        torch.testing.assert_close(gradient_at(index), expected, **EXACT)


# --- The stacked layer ---------------------------------------------------------------------


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("expanded", [False, True])
def test_gradient_of_the_stacked_layer(compiles, expanded):
    x = normal(4, 3) if expanded else normal(2, 4, 3)
    weight, bias = normal(2, 5, 3, seed=3), normal(2, 1, 5, seed=4)
    leaves = [leaf.requires_grad_() for leaf in (x, weight, bias)]

    def apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with patch.object(torch.compiler, "is_compiling", lambda: compiles):
            return stacked_linear(x.expand(2, -1, -1), weight, bias)

    found = apply(*leaves)
    for j in range(2):
        row = leaves[0] if expanded else leaves[0][j]
        expected = torch.nn.functional.linear(row, weight[j], bias[j, 0])
        torch.testing.assert_close(found[j], expected, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(apply(*leaves), found.detach(), **EXACT)
    assert torch.autograd.gradcheck(apply, leaves)


def test_the_stacked_layer_computes_only_the_gradients_that_are_asked_for():
    for wanted in range(3):
        leaves = [normal(2, 4, 3), normal(2, 5, 3, seed=3), normal(2, 1, 5, seed=4)]
        leaves[wanted].requires_grad_()
        stacked_linear(*leaves).square().sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [k == wanted for k in range(3)]


def test_a_weights_gradient_lies_in_memory_as_the_weight_does():
    weight = normal(2, 5, 3).requires_grad_()
    stacked_linear(normal(2, 4, 3), weight, normal(2, 1, 5)).sum().backward()
    assert weight.grad.stride() == weight.stride()
