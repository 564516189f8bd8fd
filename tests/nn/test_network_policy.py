"""The networks as selectors see them, against the same networks one candidate a row."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_fmq.flow.bound_policy import TiledPolicy
from rllib_fmq.flow.critic import aggregate
from rllib_fmq.flow.selection import SelectorSettings, select_bound
from rllib_fmq.nn import candidate_blocks, network_policy
from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.network_policy import NetworkPolicy
from rllib_fmq.nn.network_views import NetworkViews
from rllib_fmq.nn.velocity_field import VelocityField
from tests.nn.straightforward import (
    TOLERANCE,
    compiled_formulas,
    plain_choice,
    plain_nets,
    relative_difference,
    shake_,
)

OBS_DIM, SIZE = 5, 6
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def make_networks(
    dtype: torch.dtype,
    hidden: tuple[int, ...] = (32, 32, 32),
    *,
    obs_dim: int = OBS_DIM,
    size: int = SIZE,
    num_critics: int = 2,
    conditioning: bool = False,
    gelu: str = "tanh",
) -> tuple[VelocityField, CriticEnsemble]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actor = VelocityField(obs_dim, size, hidden, 16, conditioning, gelu)
        critics = CriticEnsemble(obs_dim, size, hidden, num_critics, gelu)
    generator = torch.Generator().manual_seed(1)
    shake_(actor, generator)
    shake_(critics, generator)
    return actor.to(dtype), critics.to(dtype)


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 2) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tiled(actor: VelocityField, critics: CriticEnsemble, obs: Tensor, how: str) -> TiledPolicy:
    return TiledPolicy(actor, lambda s, a: aggregate(critics(s, a), how), obs)


# --- Each function of the policy -----------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    num=st.integers(1, 6),
    count=st.integers(1, 9),
    horizon=st.integers(1, 5),
    hidden=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    num_critics=st.integers(1, 3),
    conditioning=st.booleans(),
    gelu=st.sampled_from(["tanh", "none"]),
    how=st.sampled_from(["min", "mean"]),
    times=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    packed=st.booleans(),
    block_rows=st.one_of(st.none(), st.integers(1, 20)),
)
def test_the_policy_is_the_networks_one_candidate_a_row(
    num,
    count,
    horizon,
    hidden,
    num_critics,
    conditioning,
    gelu,
    how,
    times,
    packed,
    block_rows,
):
    """Of any sizes; ``block_rows``: through blocks of about that many, or in one piece."""
    dtype, size = torch.float64, 2 * horizon
    actor, critics = make_networks(
        dtype,
        tuple(hidden),
        size=size,
        num_critics=num_critics,
        conditioning=conditioning,
        gelu=gelu,
    )
    obs, a = normal(num, OBS_DIM), normal(num, count, size, seed=3)
    r, t = sorted(times)
    reference = tiled(actor, critics, obs, how)
    blocks = block_rows is not None
    with (
        torch.no_grad(),
        compiled_formulas() if blocks else nullcontext(),
        patch.object(network_policy, "MANY_ROWS_COMPILED", 0),
        patch.object(candidate_blocks, "BLOCK_ROWS", block_rows or 1),
    ):
        views = NetworkViews(actor, critics, OBS_DIM, keep_packed=packed)
        policy = NetworkPolicy(views, obs, how, compiled=blocks)
        assert policy.num_obs == num
        for _ in range(3):  # what was kept serves again
            u, expected = policy.velocity(a, r, t), reference.velocity(a, r, t)
            assert relative_difference(u, expected) <= 1e-10
            # A normalisation of very few numbers multiplies rounding errors.
            torch.testing.assert_close(policy.score(a), reference.score(a), rtol=1e-8, atol=1e-8)
            scores, gradient_at = policy.score_for_step(a)
            torch.testing.assert_close(scores, reference.score(a), rtol=1e-8, atol=1e-8)
    index = normal(num, count, seed=4).argsort(dim=1)[:, : (count + 1) // 2]
    with torch.no_grad():
        found, expected = gradient_at(index), reference.score_for_step(a)[1](index)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rows", [(1, 1), (3, 4), (64, 32), (65, 32), (300, 40), (5000, 1)])
@pytest.mark.parametrize("gelu", ["tanh", "none"])
def test_blocks_in_single_precision(rows, gelu):
    """Few candidates, blocks of several observations, a last block that is not full."""
    actor, critics = make_networks(torch.float32, (64, 64, 64, 64), gelu=gelu)
    obs = normal(rows[0], OBS_DIM, dtype=torch.float32)
    a = normal(*rows, SIZE, dtype=torch.float32, seed=3)
    reference = tiled(actor.double(), critics.double(), obs.double(), "min")
    expected = reference.velocity(a.double(), 0.0, 1.0), reference.score(a.double())
    actor.float(), critics.float()
    policy = NetworkPolicy(NetworkViews(actor, critics, OBS_DIM), obs, "min")
    with torch.no_grad():
        found = policy.velocity(a, 0.0, 1.0), policy.score(a)
    assert (policy._blocks is not None) == (rows[0] * rows[1] >= network_policy.MANY_ROWS)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_difference(ours.double(), theirs.detach()) <= 1e-5


# --- Whole selectors -----------------------------------------------------------------------

SELECTORS = {
    "sample": SelectorSettings("sample"),
    "best of 1": SelectorSettings("best_of_n", num_candidates=1),
    "best of 8": SelectorSettings("best_of_n", num_candidates=8),
    "euler": SelectorSettings("euler", num_candidates=1, euler_steps=4),
    "euler best of 8": SelectorSettings("euler", num_candidates=8, euler_steps=10),
    "qgbs (1, 4, 4)": SelectorSettings("qgbs"),
    "qgbs of one particle": SelectorSettings("qgbs", beam_width=1, branches=1),
    "qgbs without a step": SelectorSettings("qgbs", eta=0.0),
}
SELECTORS |= {
    f"qgbs (K={iters}) by {completion}": SelectorSettings(
        "qgbs", beam_width=3, search_iters=iters, branches=2, eta=0.5, completion=completion
    )
    for iters in (0, 1, 3)
    for completion in ("jump", "euler")
}


@DTYPES
@pytest.mark.parametrize("formulas", ["eager", "packed", "compiled"])
@pytest.mark.parametrize("how", ["min", "mean"])
@pytest.mark.parametrize("name", SELECTORS)
def test_selectors_choose_the_same(name, how, formulas, dtype):
    actor, critics = make_networks(dtype)
    obs, selector = normal(24, OBS_DIM, dtype=dtype), SELECTORS[name]
    expected, expected_q = plain_choice(
        plain_nets(actor, critics), selector, how, obs, obs.new_zeros(1, SIZE), seeded()
    )
    views = NetworkViews(actor, critics, OBS_DIM, keep_packed=formulas == "packed")
    compiled = formulas == "compiled"
    with torch.no_grad(), compiled_formulas():
        # Weights are packed when they serve again, so the later rounds are others than the first.
        for _ in range(3):
            policy = NetworkPolicy(views, obs, how, compiled=compiled)
            found = select_bound(selector, policy, obs, SIZE, seeded())
            # At a near-tie another candidate may win, but none that is worse.
            assert found.q_values.isnan().equal(expected_q.isnan())
            if not expected_q.isnan().any():
                assert relative_difference(found.q_values, expected_q) <= TOLERANCE[dtype]
            assert relative_difference(found.actions, expected) <= TOLERANCE[dtype]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(8)


# --- What is kept between calls ------------------------------------------------------------


def plans_of(views: NetworkViews, obs: Tensor) -> Tensor:
    """A plan by every part that keeps something: both networks, forwards and backwards."""
    with torch.no_grad():
        policy = NetworkPolicy(views, obs, "min")
        return select_bound(SelectorSettings("qgbs", eta=0.5), policy, obs, SIZE, seeded()).actions


def write_by_adam(actor: VelocityField, critics: CriticEnsemble) -> None:
    for parameter in (*actor.parameters(), *critics.parameters()):
        parameter.grad = torch.ones_like(parameter)
    torch.optim.Adam([*actor.parameters(), *critics.parameters()], lr=0.05, fused=True).step()


def write_by_loading(actor: VelocityField, critics: CriticEnsemble) -> None:
    for network in (actor, critics):
        state = network.state_dict()
        network.load_state_dict({name: value + 0.05 for name, value in state.items()})


def write_one(actor: VelocityField, critics: CriticEnsemble) -> None:
    with torch.no_grad():
        critics.scales[0].mul_(1.5)


def write_the_first_bias(actor: VelocityField, critics: CriticEnsemble) -> None:
    with torch.no_grad():
        actor.linears[0].bias.add_(0.3)


@pytest.mark.parametrize(
    "write", [write_by_adam, write_by_loading, write_one, write_the_first_bias]
)
def test_what_is_kept_follows_the_parameters(write):
    actor, critics = make_networks(torch.float32)
    obs = normal(3, OBS_DIM, dtype=torch.float32)
    kept = NetworkViews(actor, critics, OBS_DIM, keep_packed=True)
    before = [plans_of(kept, obs) for _ in range(3)]
    write(actor, critics)
    after = [plans_of(kept, obs) for _ in range(3)]
    fresh = plans_of(NetworkViews(copy.deepcopy(actor), copy.deepcopy(critics), OBS_DIM), obs)
    for plan in after:
        assert relative_difference(plan, fresh) <= 1e-5
    assert relative_difference(before[0], fresh) > 1e-3


def test_kept_weights_serve_any_number_of_rows():
    actor, critics = make_networks(torch.float32)
    kept = NetworkViews(actor, critics, OBS_DIM, keep_packed=True)
    for count in (1, 3, 1, 2, 3, 1, 2, 3):
        obs = normal(count, OBS_DIM, dtype=torch.float32, seed=count)
        expected = plans_of(NetworkViews(actor, critics, OBS_DIM), obs)
        assert relative_difference(plans_of(kept, obs), expected) <= 1e-5
