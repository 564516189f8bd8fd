"""Environments of your own: a `module:factory` path, and success told by a function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium

SuccessFunction = Callable[[Any, float, bool, bool, dict[str, Any]], bool]
"""(observation, reward, terminated, truncated, info) of a step -> whether the task is solved."""


class ReportSuccess(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Sets `info["success"]` by a function of the user's; episodes end when the environment says.

    Args:
        env: Any environment.
        success_fn: Called after every step with what the step returned.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], success_fn: SuccessFunction) -> None:
        super().__init__(env)
        self._success_fn = success_fn

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and report success."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = self._success_fn(observation, float(reward), terminated, truncated, info)
        info = {**info, "success": bool(success)}
        return observation, reward, terminated, truncated, info


def import_path(path: str, what: str) -> Any:
    """The object that a path such as "my_package.my_module:make" names.

    Args:
        path: Module and attribute (dots allowed), joined by a colon.
        what: What it is for, for the error.
    Raises:
        ValueError: If the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"{what} {path!r}: expected module:name, such as my_package.envs:make.")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what} {path!r}: there is no module {error.name!r}. Install it, or put its folder "
            "on PYTHONPATH."
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module does
        raise ValueError(
            f"{what} {path!r}: importing {module_name} failed: {one_line(error)}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name in vars(found) if not name.startswith("_")]
            raise ValueError(
                f"{what} {path!r}: {module_name} has no {attribute!r}; it has "
                f"{', '.join(sorted(known)[:20]) or 'nothing'}."
            )
        found = getattr(found, part)
    return found


def resolve_success_fn(success_fn: str | SuccessFunction | None) -> SuccessFunction | None:
    """A success function, or the path of one, as a function.

    Args:
        success_fn: Function, "module:function", or None.
    Raises:
        ValueError: If it is neither.
    """
    if success_fn is None:
        return None
    found = import_path(success_fn, "success_fn") if isinstance(success_fn, str) else success_fn
    if not callable(found):
        raise ValueError(
            f"success_fn {success_fn!r} is a {type(found).__name__}: expected a function of "
            "(observation, reward, terminated, truncated, info)."
        )
    return found


def is_factory(name: str) -> bool:
    """Whether a name with a colon is a path of a factory, rather than Gymnasium's "module:id".

    Gymnasium's ids contain a hyphen with the version, or are registered by the module.

    Args:
        name: Such as "my_package.envs:make".
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in attribute.split(".")):
        return False
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit):  # told in full when it is made
        return attribute not in gymnasium.registry
    return hasattr(module, attribute.split(".")[0]) or attribute not in gymnasium.registry


def make_from_factory(
    name: str, *, max_episode_steps: int | None = None, **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Call a factory.

    Args:
        name: "module:factory"; a function or an environment class.
        max_episode_steps: Truncate episodes after so many steps.
        **kwargs: Passed to the factory.
    Raises:
        ValueError: If there is no such factory, or what it returns is not an environment.
    """
    factory = import_path(name, "environment")
    if not callable(factory):
        raise ValueError(
            f"environment {name!r} is a {type(factory).__name__}: expected a function or a class."
        )
    try:
        env = factory(**kwargs)
    except TypeError:
        raise  # an argument that it does not take, perhaps
    except (Exception, SystemExit) as error:
        raise ValueError(f"environment {name!r} cannot be made: {one_line(error)}") from error
    if not isinstance(env, gymnasium.Env):
        raise ValueError(
            f"environment {name!r} returned a {type(env).__name__}: expected a gymnasium.Env."
        )
    if max_episode_steps is None:
        return env
    while isinstance(env, gymnasium.wrappers.TimeLimit):  # the new one stands in its place
        env = env.env
    return gymnasium.wrappers.TimeLimit(env, max_episode_steps)


def one_line(error: BaseException) -> str:
    """An error's kind and message without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_limit(steps: int | None) -> None:
    """Refuse an episode limit that is none.

    Args:
        steps: Whole number >= 1, or None for the environment's own.
    Raises:
        ValueError: If it is something else.
    """
    if steps is None:
        return
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"max_episode_steps={steps!r}: must be a whole number >= 1.")
