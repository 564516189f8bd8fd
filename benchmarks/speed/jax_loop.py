"""The JAX baseline: the same updates in JAX, Flax and optax, one jitted function each.

Written as a JAX user would: Flax modules, a vmapped critic ensemble, ``jax.jvp`` for the Eulerian
loss, one ``value_and_grad`` of the sum of the losses, optax's Adam, donated buffers, threefry noise
(on a CPU quicker than "rbg"). Before this module is imported, pin the process to a core and set
``XLA_FLAGS`` to the value of ``process.XLA_FLAGS``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import stop_gradient

from benchmarks.speed.problem import EULER_STEPS, NUM_CANDIDATES, Method

Array = jax.Array
KERNEL = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ROWS_AT_ONCE = 1024
"""Candidates evaluated at once: a third less time than all 8192 of a batch."""
gelu = functools.partial(jax.nn.gelu, approximate=True)


class Actor(nn.Module):
    """u_{r,t}(a | s) = MLP([s, a, F(r), F(t)])."""

    hidden: tuple[int, ...]
    action_size: int
    time_features: int = 64

    def features(self, time: Array) -> Array:
        half = self.time_features // 2
        angle = time * jnp.exp(
            -math.log(10_000.0) * jnp.arange(half, dtype=time.dtype) / (half - 1)
        )
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    @nn.compact
    def __call__(self, obs: Array, a: Array, r: Array, t: Array) -> Array:
        x = jnp.concatenate([obs, a, self.features(r), self.features(t)], axis=-1)
        for width in self.hidden:
            x = gelu(nn.Dense(width, kernel_init=KERNEL)(x))
        return nn.Dense(self.action_size, kernel_init=KERNEL)(x)


class Critic(nn.Module):
    """Q(s, a): GELU, then LayerNorm, after each hidden layer."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, obs: Array, actions: Array) -> Array:
        x = jnp.concatenate([obs, actions], axis=-1)
        for width in self.hidden:
            x = nn.LayerNorm(epsilon=1e-6)(gelu(nn.Dense(width, kernel_init=KERNEL)(x)))
        return nn.Dense(1, kernel_init=KERNEL)(x).squeeze(-1)


class Networks(NamedTuple):
    """Apply functions, with the sizes bound."""

    actor: Actor
    critics: nn.Module

    @classmethod
    def create(cls, action_size: int, hidden: Sequence[int], num_critics: int = 2) -> Networks:
        ensemble = nn.vmap(
            Critic,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=num_critics,
        )
        return cls(Actor(tuple(hidden), action_size), ensemble(tuple(hidden)))

    def init(self, key: Array, obs_dim: int) -> dict[str, Any]:
        """Parameters of actor and critics."""
        key_actor, key_critics = jax.random.split(key)
        obs, a, t = (
            jnp.zeros((1, obs_dim)),
            jnp.zeros((1, self.actor.action_size)),
            jnp.zeros((1, 1)),
        )
        return {
            "actor": self.actor.init(key_actor, obs, a, t, t),
            "critics": self.critics.init(key_critics, obs, a),
        }


def mean_square(error: Array, weight: Array | None) -> Array:
    return jnp.mean(jnp.square(error) if weight is None else weight * jnp.square(error))


def best_of_n(
    nets: Networks, params: Any, obs: Array, noise: Array, scoring: str = "mean", steps: int = 0
) -> Array:
    """The best by Q of N samples, or with ``steps`` of N Euler integrals; one is not scored.

    Shapes (B, o), (B, N, A) -> (B, A).
    """
    batch, num, size = noise.shape
    chunk = max(1, ROWS_AT_ONCE // num)
    if batch > chunk and batch % chunk == 0:
        # One after the other, so that a layer's activations stay in the cache.
        chunks = obs.reshape(-1, chunk, obs.shape[1]), noise.reshape(-1, chunk, num, size)
        chosen = jax.lax.map(lambda x: best_of_n(nets, params, *x, scoring, steps), chunks)
        return chosen.reshape(batch, size)
    tiled = jnp.repeat(obs, num, axis=0)
    a = noise.reshape(batch * num, size)
    zero = jnp.zeros((batch * num, 1))
    if steps:

        def step(a: Array, k: Array) -> tuple[Array, None]:
            t = zero + k / steps
            return a + nets.actor.apply(params["actor"], tiled, a, t, t) / steps, None

        a, _ = jax.lax.scan(step, a, jnp.arange(steps))
    else:
        a = a + nets.actor.apply(params["actor"], tiled, a, zero, zero + 1)
    a = jnp.clip(a, -1, 1)
    if num == 1:
        return a
    values = nets.critics.apply(params["critics"], tiled, a)
    values = (values.min(0) if scoring == "min" else values.mean(0)).reshape(batch, num)
    index = jnp.argmax(values, axis=1)
    return jnp.take_along_axis(a.reshape(batch, num, size), index[:, None, None], axis=1)[:, 0]


def critic_loss(
    nets: Networks,
    critics: Any,
    target_critics: Any,
    batch: Mapping[str, Array],
    next_actions: Array,
    gamma: float = 0.99,
) -> Array:
    """Eq. 8 over chunks."""
    value = nets.critics.apply(target_critics, batch["next_obs"], next_actions).min(0)
    horizon = batch["rewards"].shape[1]
    alive = jnp.cumprod(1.0 - batch["terminated"], axis=1)
    before = jnp.concatenate([jnp.ones_like(alive[:, :1]), alive[:, :-1]], axis=1)
    returns = jnp.sum(gamma ** jnp.arange(horizon) * before * batch["rewards"], axis=1)
    target = stop_gradient(returns + gamma**horizon * alive[:, -1] * value)
    q = nets.critics.apply(critics, batch["obs"], batch["actions"])
    return jnp.sum(jnp.mean(batch["complete"] * jnp.square(q - target), axis=1))


def diagonal_loss(
    nets: Networks,
    actor: Any,
    obs: Array,
    actions: Array,
    weight: Array | None,
    noise: Array,
    t: Array,
) -> Array:
    """Eq. 3."""
    a_t = (1 - t) * noise + t * actions
    return mean_square(nets.actor.apply(actor, obs, a_t, t, t) - (actions - noise), weight)


def eulerian_loss(
    nets: Networks,
    actor: Any,
    obs: Array,
    actions: Array,
    weight: Array | None,
    noise: Array,
    r: Array,
    t: Array,
) -> Array:
    """Eq. 5; the JVP's primal output is the student."""
    a_r = (1 - r) * noise + r * actions
    v = actions - noise
    u, du = jax.jvp(
        lambda r_, a_: nets.actor.apply(actor, obs, a_, r_, t), (r, a_r), (jnp.ones_like(r), v)
    )
    return mean_square(u - stop_gradient(v + (t - r) * du), weight)


def q_guidance_loss(
    nets: Networks,
    actor: Any,
    critics: Any,
    reference_actor: Any,
    batch: Mapping[str, Array],
    noise: Array,
    r: Array,
    eta: float = 1.0,
    beta: float = 0.3,
    eps: float = 1e-8,
) -> Array:
    """Eq. 12 with Eq. 13's radius for two critics."""
    a_r = (1 - r) * noise + r * batch["actions"]
    u_off = nets.actor.apply(reference_actor, batch["obs"], a_r, r, jnp.ones_like(r))
    a_1 = jnp.clip(a_r + (1 - r) * u_off, -1, 1)

    def member(j: int, a: Array) -> Array:
        """Q_j alone, so that only Q_1 is differentiated."""
        own = jax.tree.map(lambda x: x[j], critics)
        return Critic(nets.critics.hidden).apply(own, batch["obs"], a)

    q_1, pullback = jax.vjp(lambda a: member(0, a), a_1)
    (g,) = pullback(jnp.ones_like(q_1))
    delta = jnp.abs(q_1 - member(1, a_1)) / math.sqrt(2.0)
    radius = eta / (1 + beta * delta / (jnp.mean(delta) + eps))
    unit = g / (jnp.linalg.norm(g, axis=-1, keepdims=True) + eps)
    target = stop_gradient(u_off + radius[:, None] * unit)
    u = nets.actor.apply(actor, batch["obs"], a_r, r, jnp.ones_like(r))
    return mean_square(u - target, batch["valid"])


class State(NamedTuple):
    """What an update changes, and the reference that it does not."""

    params: Any
    target_critics: Any
    opt_state: Any
    key: Array


class JaxLoop:
    """One method's networks, optimiser and update; the arguments are ``PlainLoop``'s."""

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        horizon: int,
        batch_size: int,
        method: Method = "FMQ",
        online: bool = False,
        target_candidates: int = 1,
        seed: int = 0,
        hidden: Sequence[int] = (512, 512, 512, 512),
    ) -> None:
        self.method, self.online, self.target_candidates = method, online, target_candidates
        self.batch_size, self.action_size = batch_size, horizon * action_dim
        self.nets = Networks.create(self.action_size, hidden)
        self.optimizer = optax.adam(3e-4)
        self.tau = 0.005
        key, init_key = jax.random.split(jax.random.key(seed))
        # Jitted, because operator by operator every shape is compiled on its own.
        params, opt_state = jax.jit(self._init, static_argnums=1)(init_key, obs_dim)
        copied = jax.tree.map(lambda x: jnp.array(np.array(x)), params)
        self.reference_actor = copied["actor"]
        self.state = State(params, copied["critics"], opt_state, key)
        self._step = jax.jit(self._update, donate_argnums=0)

    def _init(self, key: Array, obs_dim: int) -> tuple[Any, Any]:
        params = self.nets.init(key, obs_dim)
        return params, self.optimizer.init(params)

    def _actor_loss(self, params: Any, reference: Any, batch: Any, keys: Array) -> Array:
        nets, actor, obs = self.nets, params["actor"], batch["obs"]
        actions, weight = batch["actions"], batch["valid"]
        shape = actions.shape
        if self.method == "FMQ" and self.online:
            noise = jax.random.normal(keys[0], shape)
            r = jax.random.uniform(keys[1], (shape[0], 1))
            critics = stop_gradient(params["critics"])
            return q_guidance_loss(nets, actor, critics, reference, batch, noise, r)
        if self.method == "MVP" and self.online:
            noise = jax.random.normal(keys[2], (shape[0], NUM_CANDIDATES, shape[1]))
            actions = best_of_n(nets, stop_gradient(params), obs, noise, "min")
            weight = None
        noise = jax.random.normal(keys[0], shape)
        t = jax.random.uniform(keys[1], (shape[0], 1))
        loss = diagonal_loss(nets, actor, obs, actions, weight, noise, t)
        if self.method == "QC":
            return loss
        noise = jax.random.normal(keys[3], shape)
        pair = jnp.sort(jax.random.uniform(keys[4], (shape[0], 2)), axis=1)
        r, t = pair[:, :1], pair[:, 1:]
        return loss + eulerian_loss(nets, actor, obs, actions, weight, noise, r, t)

    def _update(self, state: State, reference: Any, batch: Any) -> tuple[State, Array]:
        key, *keys = jax.random.split(state.key, 7)
        noise = jax.random.normal(
            keys[5], (self.batch_size, self.target_candidates, self.action_size)
        )
        steps = EULER_STEPS if self.method == "QC" else 0
        next_actions = best_of_n(self.nets, state.params, batch["next_obs"], noise, "mean", steps)

        def total(params: Any) -> Array:
            return critic_loss(
                self.nets, params["critics"], state.target_critics, batch, next_actions
            ) + self._actor_loss(params, reference, batch, keys)

        loss, grads = jax.value_and_grad(total)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        target_critics = optax.incremental_update(params["critics"], state.target_critics, self.tau)
        return State(params, target_critics, opt_state, key), loss

    def update(self, batch: Mapping[str, np.ndarray | Array]) -> Array:
        """One gradient update and Polyak step; returns the loss when all of it is done."""
        self.state, loss = self._step(self.state, self.reference_actor, dict(batch))
        jax.block_until_ready((self.state, loss))
        return loss
