"""The JAX baseline computes what the plain one does."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

# Compilation is what takes the time here.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
pytest.importorskip("flax")
pytest.importorskip("optax")
jax = pytest.importorskip("jax")

from benchmarks.speed import jax_loop, plain  # noqa: E402
from benchmarks.speed.problem import Sizes, random_batch  # noqa: E402

S = Sizes(obs_dim=5, action_dim=2, horizon=3, batch_size=12, hidden=(16, 24))
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def to_flax(named: dict[str, torch.Tensor]) -> dict:
    """Flax parameters from those of ``Nets.named_like``."""
    arrays = {name: value.numpy() for name, value in named.items()}
    actor, critics = {}, {}
    for i in range(len(S.hidden) + 1):
        actor[f"Dense_{i}"] = {
            "kernel": arrays[f"actor.mlp.{2 * i}.weight"].T,
            "bias": arrays[f"actor.mlp.{2 * i}.bias"],
        }
        critics[f"Dense_{i}"] = {
            "kernel": arrays[f"critics.weights.{i}"].swapaxes(1, 2),
            "bias": arrays[f"critics.biases.{i}"][:, 0],
        }
        if i < len(S.hidden):
            critics[f"LayerNorm_{i}"] = {
                "scale": arrays[f"critics.scales.{i}"][:, 0],
                "bias": arrays[f"critics.shifts.{i}"][:, 0],
            }
    return {"actor": {"params": actor}, "critics": {"params": critics}}


@pytest.fixture(scope="module")
def torch_nets() -> plain.Nets:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nets = plain.Nets.create(S.obs_dim, S.action_size, S.hidden)
        with torch.no_grad():
            for module in (nets.actor, nets.critics, nets.target_critics, nets.reference_actor):
                for parameter in module.parameters():
                    parameter += 0.1 * torch.randn_like(parameter)
    return nets


@pytest.fixture(scope="module")
def flax_params(torch_nets) -> dict:
    """Parameters of the trained networks, and of the frozen ones."""
    frozen = plain.Nets(
        torch_nets.reference_actor,
        torch_nets.target_critics,
        torch_nets.target_critics,
        torch_nets.reference_actor,
    )
    return {"trained": to_flax(torch_nets.named_like()), "frozen": to_flax(frozen.named_like())}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((S.batch_size, 2)), axis=1)
    numbers = {
        "noise": rng.standard_normal((S.batch_size, S.action_size)),
        "candidates": rng.standard_normal((S.batch_size, 8, S.action_size)),
        "next_actions": rng.uniform(-1, 1, (S.batch_size, S.action_size)),
        "r": times[:, :1],
        "t": times[:, 1:],
    }
    return {name: value.astype(np.float32) for name, value in numbers.items()}


NETS = jax_loop.Networks.create(S.action_size, S.hidden)
ARRAYS = random_batch(S, seed=37)


@pytest.mark.parametrize("loss", ["critic", "diagonal", "esd", "q_guidance"])
def test_losses_and_gradients_agree(loss, torch_nets, flax_params, drawn):
    batch = plain.to_batch(ARRAYS)
    x = {name: torch.from_numpy(value) for name, value in drawn.items()}
    data = (ARRAYS["obs"], ARRAYS["actions"], ARRAYS["valid"], drawn["noise"])
    data_torch = (batch.obs, batch.actions, batch.valid, x["noise"])

    def with_jax(params: dict) -> jax.Array:
        actor, frozen = params["actor"], flax_params["frozen"]
        if loss == "critic":
            return jax_loop.critic_loss(
                NETS, params["critics"], frozen["critics"], ARRAYS, drawn["next_actions"]
            )
        if loss == "diagonal":
            return jax_loop.diagonal_loss(NETS, actor, *data, drawn["t"])
        if loss == "esd":
            return jax_loop.eulerian_loss(NETS, actor, *data, drawn["r"], drawn["t"])
        critics = jax.lax.stop_gradient(params["critics"])
        return jax_loop.q_guidance_loss(
            NETS, actor, critics, frozen["actor"], ARRAYS, drawn["noise"], drawn["r"], 0.7, 0.4
        )

    value, grads = jax.jit(jax.value_and_grad(with_jax))(flax_params["trained"])
    if loss == "critic":
        expected = plain.critic_loss(torch_nets, batch, x["next_actions"])
    elif loss == "diagonal":
        expected = plain.diagonal_loss(torch_nets, *data_torch, x["t"])
    elif loss == "esd":
        expected = plain.distillation_loss("esd", torch_nets, *data_torch, x["r"], x["t"])
    else:
        expected = plain.q_guidance_loss(torch_nets, batch, x["noise"], x["r"], 0.7, 0.4)
    np.testing.assert_allclose(value, expected.item(), **CLOSE)

    parameters = torch_nets.parameters()
    gradients = torch.autograd.grad(expected, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
    wanted = to_flax(plain.gradients_like(torch_nets))
    assert jax.tree.structure(wanted) == jax.tree.structure(grads)
    assert max(float(np.abs(g).max()) for g in jax.tree.leaves(wanted)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), grads, wanted)


@pytest.mark.parametrize(
    ("steps", "scoring", "rows"), [(0, "min", 1024), (0, "mean", 16), (5, "mean", 16)]
)
def test_selection_agrees(steps, scoring, rows, torch_nets, flax_params, drawn, monkeypatch):
    """In one piece, and in pieces of 2 observations."""
    monkeypatch.setattr(jax_loop, "ROWS_AT_ONCE", rows)
    select = jax.jit(jax_loop.best_of_n, static_argnums=(0, 4, 5))
    got = select(NETS, flax_params["trained"], ARRAYS["obs"], drawn["candidates"], scoring, steps)
    obs, noise = torch.from_numpy(ARRAYS["obs"]), torch.from_numpy(drawn["candidates"])
    if steps:
        wanted, _ = plain.euler_best_of_n(torch_nets, obs, noise, steps, scoring)
    else:
        wanted, _ = plain.best_of_n(torch_nets, obs, noise, scoring)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "online", "candidates"),
    [("FMQ", True, 4), ("MVP", True, 1), ("QC", False, 1)],
)
def test_updates_of_the_loop(method, online, candidates):
    loop = jax_loop.JaxLoop(5, 2, 3, S.batch_size, method, online, candidates, 1, S.hidden)
    assert loop.state.params["critics"]["params"]["Dense_0"]["kernel"].shape == (2, 11, 16)
    # Copies: the state is donated to the update.
    before = jax.tree.map(np.array, loop.state._replace(key=0))
    reference = jax.tree.map(np.array, loop.reference_actor)
    loss = loop.update(ARRAYS)
    assert np.isfinite(loss)
    jax.tree.map(
        lambda old, new, critic: np.testing.assert_allclose(
            new, 0.995 * old + 0.005 * critic, rtol=1e-5, atol=1e-7
        ),
        before.target_critics,
        loop.state.target_critics,
        loop.state.params["critics"],
    )
    jax.tree.map(np.testing.assert_array_equal, reference, loop.reference_actor)
    moved = jax.tree.map(
        lambda old, new: bool(np.any(old != new)), before.params, loop.state.params
    )
    assert all(jax.tree.leaves(moved))
    early = sum(float(loop.update(ARRAYS)) for _ in range(10))
    for _ in range(60):
        loop.update(ARRAYS)
    assert sum(float(loop.update(ARRAYS)) for _ in range(10)) < early
