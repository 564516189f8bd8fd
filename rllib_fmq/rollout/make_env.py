"""How a config's sub-environments are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry

Env = gym.Env[Any, Any]

_ENV_ID = "rllib-single-agent-env-v0"  # the name under which RLlib makes what was registered


def env_maker(env: Any, context: EnvContext) -> Callable[[], Env]:
    """As RLlib's runner would make a sub-environment.

    Args:
        env: A name registered with ``register_env``, a class or function, or a Gymnasium id.
        context: What it is made with.
    Returns:
        A function that makes one, also in another process.
    """
    creator = env
    if isinstance(env, str):
        if not _global_registry.contains(ENV_CREATOR, env):
            return partial(gym.make, env, **context)
        creator = _global_registry.get(ENV_CREATOR, env)
    return partial(_make_own, creator, context)


def _make_own(creator: Callable[[EnvContext], Env], context: EnvContext) -> Env:
    def entry_point(**_: Any) -> Env:
        return creator(context)

    return gym.make(EnvSpec(_ENV_ID, entry_point=entry_point))
