"""The four selectors: what they return, what they cost, and that they stay in the box."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rllib_fmq.flow import (
    SELECTORS,
    SelectorSettings,
    best_of_n,
    euler,
    qgbs,
    sample,
    select_actions,
)

NUM_OBS, OBS_DIM, SIZE = 6, 3, 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class CountingVelocity:
    """A field that counts the rows it evaluates and notes the flow times."""

    def __init__(self, scale: float = 0.5) -> None:
        self.scale = scale
        self.rows = 0
        self.times: list[tuple[float, float]] = []

    def __call__(self, obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
        assert obs.shape == (len(a), OBS_DIM) and r.shape == t.shape == (len(a), 1)
        self.rows += len(a)
        self.times.append((r[0].item(), t[0].item()))
        assert (r == r[0]).all() and (t == t[0]).all()
        return self.scale * (torch.tanh(obs[:, :SIZE] + r - 2.0 * t) - 1.2 * a)


def goal_score(obs: Tensor, actions: Tensor) -> Tensor:
    """Quadratic value, highest at a goal that the observation names."""
    return -(actions - torch.tanh(obs[:, :SIZE])).square().sum(dim=-1)


@pytest.fixture
def obs() -> Tensor:
    return torch.randn(NUM_OBS, OBS_DIM, generator=seeded(7), dtype=torch.float64)


def one_step(velocity: CountingVelocity, obs: Tensor, noise: Tensor) -> Tensor:
    zero = torch.zeros(len(noise), 1, dtype=torch.float64)
    return (noise + velocity(obs, noise, zero, zero + 1.0)).clamp(-1.0, 1.0)


SETTINGS = [
    SelectorSettings("sample"),
    SelectorSettings("best_of_n", num_candidates=5),
    SelectorSettings("euler", num_candidates=1, euler_steps=10),
    SelectorSettings("euler", num_candidates=3, euler_steps=4),
    SelectorSettings("qgbs", beam_width=3, search_iters=0),
    SelectorSettings("qgbs", beam_width=3, search_iters=2, branches=4),
    SelectorSettings("qgbs", beam_width=4, search_iters=1, branches=1, completion="euler"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.kind}-{s.nfe}")
def test_the_counter_is_the_number_of_rows_through_the_actor(settings, obs):
    velocity = CountingVelocity()
    result = select_actions(settings, velocity, goal_score, obs, SIZE, seeded())
    assert velocity.rows == result.nfe * NUM_OBS
    assert result.nfe == settings.nfe
    assert result.actions.shape == (NUM_OBS, SIZE) and result.q_values.shape == (NUM_OBS,)


@pytest.mark.parametrize(
    ("settings", "nfe"),
    [
        (SelectorSettings("sample"), 1),
        (SelectorSettings("best_of_n"), 32),
        (SelectorSettings("euler"), 320),
        (SelectorSettings("qgbs"), 20),
        (SelectorSettings("qgbs", beam_width=2, search_iters=3, branches=5), 32),
    ],
)
def test_nfe_of_the_paper(settings, nfe):
    assert settings.nfe == nfe


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.kind}-{s.nfe}")
def test_actions_stay_in_the_box(settings, obs):
    wild = replace(settings, eta=50.0)
    result = select_actions(wild, CountingVelocity(100.0), goal_score, obs, SIZE, seeded())
    assert result.actions.abs().max() <= 1.0
    assert (result.actions.abs() == 1.0).any(), "the clip was needed"


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.kind}-{s.nfe}")
def test_value_handed_back_is_the_value_of_the_action(settings, obs):
    result = select_actions(settings, CountingVelocity(), goal_score, obs, SIZE, seeded())
    if settings.kind == "sample" or (settings.kind == "euler" and settings.num_candidates == 1):
        assert result.q_values.isnan().all()
    else:
        torch.testing.assert_close(result.q_values, goal_score(obs, result.actions))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.kind}-{s.nfe}")
def test_a_seed_gives_the_same_actions_again(settings, obs):
    def choose(seed: int) -> Tensor:
        args = (settings, CountingVelocity(), goal_score, obs, SIZE, seeded(seed))
        return select_actions(*args).actions

    assert torch.equal(choose(3), choose(3))
    assert not torch.equal(choose(3), choose(4))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.kind}-{s.nfe}")
def test_no_grad_changes_nothing_and_networks_keep_no_gradient(settings, obs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(OBS_DIM + SIZE, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def score(obs: Tensor, actions: Tensor) -> Tensor:
        return critic(torch.cat([obs, actions], dim=-1)).squeeze(-1)

    free = select_actions(settings, CountingVelocity(), score, obs, SIZE, seeded())
    with torch.no_grad():
        held = select_actions(settings, CountingVelocity(), score, obs, SIZE, seeded())
    assert torch.equal(free.actions, held.actions)
    assert not held.actions.requires_grad
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_sample_is_one_jump_of_fresh_noise(obs):
    velocity = CountingVelocity()
    result = sample(velocity, obs, SIZE, seeded())
    noise = torch.randn(NUM_OBS, SIZE, generator=seeded(), dtype=torch.float64)
    assert result.nfe == 1
    assert velocity.times == [(0.0, 1.0)]
    assert torch.equal(result.actions, one_step(CountingVelocity(), obs, noise))


def test_best_of_n_is_the_best_of_its_own_row(obs):
    """A plain loop over observations and candidates finds the same."""
    count = 7
    result = best_of_n(CountingVelocity(), goal_score, obs, SIZE, count, seeded())
    noise = torch.randn(NUM_OBS * count, SIZE, generator=seeded(), dtype=torch.float64)
    for row in range(NUM_OBS):
        own = obs[row].expand(count, OBS_DIM)
        candidates = one_step(CountingVelocity(), own, noise[row * count : (row + 1) * count])
        values = [goal_score(obs[row : row + 1], c[None]).item() for c in candidates]
        winner = max(range(count), key=values.__getitem__)
        assert result.q_values[row].item() == pytest.approx(values[winner], abs=1e-14)
        torch.testing.assert_close(result.actions[row], candidates[winner])


def test_euler_uses_the_diagonal_only(obs):
    velocity = CountingVelocity()
    euler(velocity, goal_score, obs, SIZE, 2, 4, seeded())
    assert velocity.times == [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.75)]


def test_euler_approaches_the_exact_map_as_its_steps_grow(narrow_gaussian):
    obs = torch.zeros(512, OBS_DIM, dtype=torch.float64)
    noise = torch.randn(512, SIZE, generator=seeded(), dtype=torch.float64)
    zero = torch.zeros(512, 1, dtype=torch.float64)
    exact = narrow_gaussian.flow_map(noise, zero, zero + 1.0).clamp(-1.0, 1.0)

    def error(steps: int) -> float:
        def velocity(obs: Tensor, a: Tensor, r: Tensor, t: Tensor) -> Tensor:
            return narrow_gaussian.velocity(a, r, t)

        result = euler(velocity, goal_score, obs, SIZE, 1, steps, seeded())
        return (result.actions - exact).square().mean().sqrt().item()

    coarse, ten, fine, finest = (error(steps) for steps in (1, 10, 100, 1000))
    assert ten < 0.1 and ten < coarse
    assert fine < 0.2 * ten and finest < 0.2 * fine, "first order: tenfold less a decade"
    assert finest < 1e-3


def test_one_jump_of_the_exact_map_needs_no_integration(narrow_gaussian):
    obs = torch.zeros(512, OBS_DIM, dtype=torch.float64)
    noise = torch.randn(512, SIZE, generator=seeded(), dtype=torch.float64)
    zero = torch.zeros(512, 1, dtype=torch.float64)
    result = sample(lambda o, a, r, t: narrow_gaussian.velocity(a, r, t), obs, SIZE, seeded())
    exact = narrow_gaussian.flow_map(noise, zero, zero + 1.0).clamp(-1.0, 1.0)
    torch.testing.assert_close(result.actions, exact)


def test_dispatch_is_by_name(obs):
    def run(settings: SelectorSettings) -> Tensor:
        args = (settings, CountingVelocity(), goal_score, obs, SIZE, seeded())
        return select_actions(*args).actions

    velocity, beam = CountingVelocity(), SelectorSettings("qgbs", beam_width=2)
    direct = {
        "sample": sample(velocity, obs, SIZE, seeded()),
        "best_of_n": best_of_n(velocity, goal_score, obs, SIZE, 4, seeded()),
        "euler": euler(velocity, goal_score, obs, SIZE, 4, 3, seeded()),
        "qgbs": qgbs(velocity, goal_score, obs, SIZE, beam, seeded()),
    }
    assert tuple(direct) == SELECTORS
    for kind, expected in direct.items():
        settings = SelectorSettings(kind, num_candidates=4, euler_steps=3, beam_width=2)
        assert torch.equal(run(settings), expected.actions)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "beam"}, "'beam'.*best_of_n"),
        ({"num_candidates": 0}, "num_candidates=0.*>= 1"),
        ({"euler_steps": 0}, "euler_steps=0.*>= 1"),
        ({"beam_width": 0}, "beam_width=0.*>= 1"),
        ({"search_iters": -1}, "search_iters=-1.*>= 0"),
        ({"branches": 0}, "branches=0.*>= 1"),
        ({"eta": -0.1}, "eta=-0.1"),
        ({"snr": 0.0}, "snr=0.0"),
        ({"completion": "hop"}, "'hop'.*'jump' or 'euler'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SelectorSettings(**wrong)
