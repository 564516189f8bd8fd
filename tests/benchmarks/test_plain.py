"""The plain baseline against the package's networks and formulas, in float64."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmarks.speed import plain
from benchmarks.speed.problem import Sizes, random_batch
from rllib_fmq.flow import critic as critic_side
from rllib_fmq.flow import distillation, guidance
from rllib_fmq.nn.critic_ensemble import CriticEnsemble
from rllib_fmq.nn.velocity_field import VelocityField

S = Sizes(obs_dim=5, action_dim=2, horizon=3, batch_size=12, hidden=(16, 24))
EXACT = {"rtol": 1e-10, "atol": 1e-13}


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Biases, scales and shifts away from 0 and 1, so that a test sees whether they are used."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def make(gelu: str = "tanh", conditioning: bool = False) -> SimpleNamespace:
    """The package's four networks, and ``Nets`` with their weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)

        def actor() -> VelocityField:
            return shaken(VelocityField(S.obs_dim, S.action_size, S.hidden, 64, conditioning, gelu))

        def critics() -> CriticEnsemble:
            return shaken(CriticEnsemble(S.obs_dim, S.action_size, S.hidden, 2, gelu))

        ours = SimpleNamespace(
            actor=actor(), critics=critics(), target=critics(), reference=actor()
        )
    nets = plain.Nets.from_state_dicts(
        ours.actor.state_dict(),
        ours.critics.state_dict(),
        ours.target.state_dict(),
        ours.reference.state_dict(),
        conditioning=conditioning,
        gelu=gelu,
    )
    return SimpleNamespace(**vars(ours), nets=nets)


def windows() -> plain.Batch:
    batch = plain.to_batch(random_batch(S, seed=37))
    return plain.Batch(*(x if x.dtype == torch.bool else x.double() for x in batch))


@pytest.fixture
def batch() -> plain.Batch:
    batch = windows()
    assert 0 < batch.terminated.any(dim=1).sum() < S.batch_size
    assert 0 < batch.complete.sum() < S.batch_size
    return batch


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape: int, normal: bool = True) -> Tensor:
        make_them = torch.randn if normal else torch.rand
        return make_them(S.batch_size, *shape, generator=generator, dtype=torch.float64)

    return numbers


def assert_same_gradients(made: SimpleNamespace, ours: Tensor, plains: Tensor) -> None:
    """Losses agree, and so does each parameter's gradient under its name in the module."""
    torch.testing.assert_close(plains, ours, **EXACT)
    ours.backward()
    plains.backward()
    named = itertools.chain(
        ((f"actor.{n}", p) for n, p in made.actor.named_parameters()),
        ((f"critics.{n}", p) for n, p in made.critics.named_parameters()),
    )
    expected = {name: p.grad for name, p in named if p.grad is not None}
    assert expected
    torch.testing.assert_close(plain.gradients_like(made.nets), expected, **EXACT)
    frozen = [*made.nets.target_critics.parameters(), *made.nets.reference_actor.parameters()]
    assert all(p.grad is None for p in frozen)


@pytest.mark.parametrize("gelu", ["tanh", "none"])
@pytest.mark.parametrize("conditioning", [False, True])
def test_networks_are_the_packages(gelu, conditioning, batch, draw):
    made = make(gelu, conditioning)
    r, t = draw(1, normal=False), draw(1, normal=False)
    for condition in (None, (draw(1), draw(S.action_size))):
        args = (batch.obs, batch.actions, r, t, condition)
        torch.testing.assert_close(made.nets.actor(*args), made.actor(*args), **EXACT)
        torch.testing.assert_close(made.nets.reference_actor(*args), made.reference(*args), **EXACT)
    for theirs, ours in (
        (made.nets.critics, made.critics),
        (made.nets.target_critics, made.target),
    ):
        q = torch.stack([critic(batch.obs, batch.actions) for critic in theirs])
        torch.testing.assert_close(q, ours(batch.obs, batch.actions), **EXACT)


def test_parameters_keep_their_names_and_values():
    made = make()
    expected = {f"actor.{n}": p.detach() for n, p in made.actor.named_parameters()}
    expected |= {f"critics.{n}": p.detach() for n, p in made.critics.named_parameters()}
    torch.testing.assert_close(made.nets.named_like(), expected, rtol=0, atol=0)


def test_kernels_stacked_the_other_way_round(batch):
    """Weights (n, in, out) give the same networks, and come back as they went."""
    made = make()
    turned = {
        name: value.mT if name.startswith("weights") else value
        for name, value in made.critics.state_dict().items()
    }
    nets = plain.Nets.from_state_dicts(made.actor.state_dict(), turned)
    for one, other in zip(nets.critics, made.nets.critics, strict=True):
        args = batch.obs, batch.actions
        torch.testing.assert_close(one(*args), other(*args), rtol=0, atol=0)
    named = nets.named_like()
    torch.testing.assert_close({name: named[f"critics.{name}"] for name in turned}, turned)


@pytest.mark.parametrize("how", ["min", "mean"])
def test_critic_loss(how, batch, draw):
    made, next_actions = make(), draw(S.action_size).clamp(-1, 1)
    returns, bootstrap = critic_side.chunk_return(batch.rewards, batch.terminated, 0.9)
    target = critic_side.bellman_target(
        returns, bootstrap, made.target(batch.next_obs, next_actions), how
    )
    ours = critic_side.critic_loss(made.critics(batch.obs, batch.actions), target, batch.complete)
    plains = plain.critic_loss(made.nets, batch, next_actions, 0.9, how)
    assert_same_gradients(made, ours, plains)


@pytest.mark.parametrize("weighted", [True, False])
def test_diagonal_loss(weighted, batch, draw):
    made, noise, t = make(), draw(S.action_size), draw(1, normal=False)
    weight = batch.valid if weighted else None
    ours = distillation.diagonal_loss(
        lambda a, r, t: made.actor(batch.obs, a, r, t), noise, batch.actions, t, weight
    )
    plains = plain.diagonal_loss(made.nets, batch.obs, batch.actions, weight, noise, t)
    assert_same_gradients(made, ours, plains)


@pytest.mark.parametrize("kind", ["esd", "lsd", "psd"])
@pytest.mark.parametrize("student", ["jump", "composition"])
@pytest.mark.parametrize("conditioning", [False, True])
def test_distillation_losses(kind, student, conditioning, batch, draw):
    made = make(conditioning=conditioning)
    condition = (draw(1, normal=False), draw(S.action_size)) if conditioning else None
    noise, split = draw(S.action_size), draw(1, normal=False)
    r, t = draw(2, normal=False).sort(dim=1).values.split(1, dim=1)
    ours = distillation.SELF_DISTILLATION_LOSSES[kind](
        lambda a, r, t: made.actor(batch.obs, a, r, t, condition),
        noise,
        batch.actions,
        r,
        t,
        batch.valid,
        gamma=split,
        student=student,
    )
    plains = plain.distillation_loss(
        kind,
        made.nets,
        batch.obs,
        batch.actions,
        batch.valid,
        noise,
        r,
        t,
        split,
        condition,
        student,
    )
    assert_same_gradients(made, ours, plains)


@pytest.mark.parametrize("critic", ["first", "mean"])
@pytest.mark.parametrize("numerator", [None, 1.0])
def test_q_guidance_loss(critic, numerator, batch, draw):
    made, noise, r = make(), draw(S.action_size), draw(1, normal=False)
    a_r = torch.lerp(noise, batch.actions, r)
    one = torch.ones_like(r)
    u_off = made.reference(batch.obs, a_r, r, one).detach()

    def guide(a: Tensor) -> tuple[Tensor, Tensor]:
        q = made.critics(batch.obs, a)
        return q, q[0] if critic == "first" else q.mean(dim=0)

    q, gradient = guidance.q_gradient(guide, guidance.reference_action(a_r, r, u_off))
    delta = guidance.critic_disagreement(q)
    radius = guidance.adaptive_radius(delta, delta.mean(), 0.7, 0.4, 1e-8, numerator)
    target = guidance.trust_region_target(u_off, gradient, radius)
    ours = (batch.valid * (made.actor(batch.obs, a_r, r, one) - target).square()).mean()
    plains = plain.q_guidance_loss(
        made.nets, batch, noise, r, 0.7, 0.4, numerator=numerator, guidance_critic=critic
    )
    assert_same_gradients(made, ours, plains)
    assert all(p.grad is None for p in made.nets.critics.parameters())


def one_q(made: SimpleNamespace, obs: Tensor, a: Tensor, scoring: str) -> Tensor:
    q = made.critics(obs[None], a[None])[:, 0]
    return q.min() if scoring == "min" else q.mean()


def one_jump(made: SimpleNamespace, obs: Tensor, a: Tensor, start: float) -> Tensor:
    r, one = torch.full((1, 1), start).double(), torch.ones(1, 1).double()
    return (a + (1 - start) * made.actor(obs[None], a[None], r, one)[0]).clamp(-1, 1)


@pytest.mark.parametrize("scoring", ["min", "mean"])
def test_best_of_n_one_candidate_at_a_time(scoring, batch, draw):
    made, noise = make(), draw(4, S.action_size)
    actions, q = plain.best_of_n(made.nets, batch.obs, noise, scoring)
    for i, obs in enumerate(batch.obs):
        candidates = [one_jump(made, obs, a, 0.0) for a in noise[i]]
        best = max(candidates, key=lambda a: one_q(made, obs, a, scoring).item())
        torch.testing.assert_close(actions[i], best, **EXACT)
        torch.testing.assert_close(q[i], one_q(made, obs, best, scoring), **EXACT)
    torch.testing.assert_close(
        plain.sample(made.nets, batch.obs, noise[:, 0]),
        plain.best_of_n(made.nets, batch.obs, noise[:, :1])[0],
        **EXACT,
    )


def test_euler_one_candidate_at_a_time(batch, draw):
    made, noise, steps = make(), draw(3, S.action_size), 4
    actions, q = plain.euler_best_of_n(made.nets, batch.obs, noise, steps, "min")
    for i, obs in enumerate(batch.obs):
        candidates = []
        for a in noise[i]:
            for k in range(steps):
                t = torch.full((1, 1), k / steps).double()
                a = a + made.actor(obs[None], a[None], t, t)[0] / steps
            candidates.append(a.clamp(-1, 1))
        best = max(candidates, key=lambda a: one_q(made, obs, a, "min").item())
        torch.testing.assert_close(actions[i], best, **EXACT)
        torch.testing.assert_close(q[i], one_q(made, obs, best, "min"), **EXACT)
    assert plain.euler_best_of_n(made.nets, batch.obs, noise[:, :1])[1].isnan().all()


@pytest.mark.parametrize("iters", [0, 1, 2])
def test_qgbs_one_particle_at_a_time(iters, batch, draw):
    made, width, branches, eta, snr = make(), 3, 2, 0.3, 1.5
    noise, renoise = draw(width, 6), [draw(width * branches, 6) for _ in range(iters)]
    actions, q = plain.qgbs(made.nets, batch.obs, noise, renoise, eta=eta, snr=snr)
    level = snr / (1 + snr)
    for i, obs in enumerate(batch.obs):

        def climb(a: Tensor, obs: Tensor = obs) -> Tensor:
            a = a.detach().requires_grad_(True)
            (g,) = torch.autograd.grad(one_q(made, obs, a, "min"), a)
            return (a + eta * g / g.norm()).clamp(-1, 1)

        beam = [one_jump(made, obs, a, 0.0) for a in noise[i]]
        for eps in renoise:
            copies = [
                one_jump(made, obs, level * a + (1 - level) * eps[i][b * branches + c], level)
                for b, a in enumerate(beam)
                for c in range(branches)
            ]
            copies.sort(key=lambda a: -one_q(made, obs, a, "min").item())
            beam = [climb(a) for a in copies[:width]]
        if not iters:
            beam = [climb(a) for a in beam]
        best = max(beam, key=lambda a: one_q(made, obs, a, "min").item())
        torch.testing.assert_close(actions[i], best, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(q[i], one_q(made, obs, best, "min"), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "online", "candidates"),
    [
        ("FMQ", False, 1),
        ("FMQ", True, 4),
        ("MVP", False, 4),
        ("MVP", True, 1),
        ("QC", False, 1),
        ("QC", True, 4),
    ],
)
def test_updates_of_the_loop(method, online, candidates):
    arrays = random_batch(S)
    batch = plain.to_batch(arrays)

    def loop(seed: int) -> plain.PlainLoop:
        return plain.PlainLoop(5, 2, 3, S.batch_size, method, online, candidates, seed, S.hidden)

    first, again, other = loop(1), loop(1), loop(2)
    before = [p.clone() for p in first.nets.target_critics.parameters()]
    reference = [p.clone() for p in first.nets.reference_actor.parameters()]
    loss = first.update(batch)
    assert loss.isfinite()
    assert loss == again.update(batch)
    assert loss != other.update(batch)
    for old, new, online_one in zip(
        before,
        first.nets.target_critics.parameters(),
        first.nets.critics.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(new, 0.995 * old + 0.005 * online_one)
    for old, new in zip(reference, first.nets.reference_actor.parameters(), strict=True):
        assert torch.equal(old, new)
    values = first.nets.named_like()
    assert all(not torch.equal(values[n], v) for n, v in loop(1).nets.named_like().items())
    early = sum(first.update(batch).item() for _ in range(10))
    for _ in range(60):
        first.update(batch)
    assert sum(first.update(batch).item() for _ in range(10)) < early
