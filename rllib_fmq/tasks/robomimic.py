"""RoboMimic's environments, built from a dataset's `env_args` through robosuite alone."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from rllib_fmq.tasks.catalog import ROBOMIMIC, Task
from rllib_fmq.tasks.robomimic_args import (
    EnvArgs,
    check_env_args,
    check_obs_keys,
    default_env_args,
    low_dim_keys,
    num_robots,
    simulator_kwargs,
)
from rllib_fmq.tasks.robomimic_simulator import (
    Camera,
    SimulatorRandomness,
    import_robosuite,
    needs_new_model,
    release_memory,
    restore_state,
)

__all__ = [
    "DEFAULT_EPISODE_STEPS",
    "RobomimicEnv",
    "default_env_args",
    "low_dim_keys",
    "make_robomimic_env",
    "read_env_args",
]

DEFAULT_EPISODE_STEPS = 500
"""Episode limit of environments that are no task's, where the caller names none."""


class RobomimicEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A robosuite environment with RoboMimic's low_dim observations and success termination.

    An observation is the concatenation of `obs_keys`. The reward is the simulator's (1 on success,
    else 0) plus `reward_shift`. Success ends the episode, and `info` holds only `success`, a bool.
    There is no time limit: `make_robomimic_env` adds it.

    `reset(seed=...)` fixes everything random from there on, bit for bit, whatever was simulated
    before and whatever else runs in the process; later resets without a seed go on from there.
    `reset(options={"state": state})` starts from a stored state (a row of `states` in a RoboMimic
    file), and `options={"state": ..., "model": xml}` first loads the `model_file` attribute of its
    demonstration. The latter is needed where the model itself was drawn: the cube's size in Lift.
    A stored state is complete at an episode's start: stored actions then give the same observations
    bit for bit where they were recorded on a like machine. Later ones lack what a file does not
    hold (how far the fingers are commanded to close, the posture the arm began in, the object pose
    of the step before, which robosuite uses in `object`); those start from their defaults.

    Several fit into one process: the first takes about 400 MB, each further one 60 to 70 MB (110 MB
    in Transport). They share no random numbers.

    Args:
        env_args: `env_name` and `env_kwargs` as a RoboMimic file holds them.
        obs_keys: Names of the observations to use, in order; by default `low_dim_keys`.
        reward_shift: Added to the simulator's reward.
        render_mode: "rgb_array" for `render()`, or None.
        width: Width of a frame in pixels.
        height: Height of a frame in pixels.
        camera: Name of the camera; by default the one that RoboMimic's videos use.
    Raises:
        ModuleNotFoundError: If robosuite is not installed.
        ValueError: If there is no such environment, observation or camera.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        env_args: Mapping[str, Any],
        *,
        obs_keys: Sequence[str] | None = None,
        reward_shift: float = -1.0,
        render_mode: str | None = None,
        width: int = 320,
        height: int = 240,
        camera: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        if not np.isfinite(reward_shift):
            raise ValueError(f"reward_shift must be a finite number, got {reward_shift}")
        self.env_args: EnvArgs = copy.deepcopy(check_env_args(env_args, source="RobomimicEnv"))
        self.render_mode = render_mode
        self.reward_shift = float(reward_shift)
        self.obs_keys = (
            low_dim_keys(num_robots(self.env_args))
            if obs_keys is None
            else check_obs_keys(obs_keys)
        )
        self._random = SimulatorRandomness()
        self._simulator = self._make_simulator()
        self._camera: Camera | None = None
        try:
            if render_mode is not None:
                self._camera = Camera(self._simulator, camera, width=width, height=height)
            size = len(self._vector(self._simulator._get_observations(force_update=True)))
        except ValueError:
            self.close()
            raise
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._action_shape = (int(self._simulator.action_dim),)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, self._action_shape, np.float32)
        self._started = False

    @property
    def simulator(self) -> Any:
        """Robosuite's environment, for demonstrators and tests."""
        return self._simulator

    def state(self) -> NDArray[np.float64]:
        """Simulator state (time, qpos, qvel), as RoboMimic files hold it in `states`."""
        return np.asarray(self._simulator.sim.get_state().flatten(), np.float64)

    def observations(self) -> dict[str, NDArray[np.float64]]:
        """All low-dimensional observations of the current step, by RoboMimic's names."""
        return _renamed(self._simulator._get_observations())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Makes everything random from here on a function of this number.
            options: {"state": array} to start from a stored state, and {"model": xml} with it.
        Raises:
            ValueError: If an option is unknown or does not fit the environment.
        """
        if self._simulator is None:
            raise gymnasium.error.ClosedEnvironmentError(
                "this environment was closed; make another"
            )
        super().reset(seed=seed)
        if seed is not None:
            self._random.seed(seed)
        options = options or {}
        unknown = sorted(set(options) - {"state", "model"})
        if unknown or ("model" in options and "state" not in options):
            raise ValueError(
                "reset options are 'state', and 'model' together with it; got "
                f"{sorted(map(str, options))}"
            )
        with self._random.in_place():
            observations = self._simulator.reset()
            if self._simulator.hard_reset:
                release_memory(self._simulator)
            if "state" in options:
                observations = restore_state(
                    self._simulator, options["state"], options.get("model")
                )
        self._started = True
        return self._vector(observations), {"success": bool(self._succeeded())}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply one action of shape (action_dim,), clipped to [-1, 1]."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        action = np.asarray(action, np.float64)
        if action.shape != self._action_shape or not np.isfinite(action).all():
            raise ValueError(
                f"an action must be {self._action_shape[0]} finite numbers, got {action}"
            )
        observations, reward, _, _ = self._simulator.step(np.clip(action, -1.0, 1.0))
        success = self._succeeded()
        return (
            self._vector(observations),
            float(reward) + self.reward_shift,
            success,
            False,
            {"success": success},
        )

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Picture of the current state, shape (height, width, 3), uint8."""
        return None if self._camera is None else self._camera.picture()

    def close(self) -> None:
        """Free the renderer and the simulator."""
        if self._camera is not None:
            self._camera.close()
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None
        self._started = False

    def _make_simulator(self) -> Any:
        robosuite = import_robosuite()
        name, kwargs = self.env_args["env_name"], simulator_kwargs(self.env_args)
        known = sorted(robosuite.environments.base.REGISTERED_ENVS)
        if name not in known:
            raise ValueError(
                f"robosuite {robosuite.__version__} has no environment {name!r}; "
                f"it has {', '.join(known)}"
            )
        try:
            with self._random.in_place(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its viewer probes for a display
                simulator = robosuite.make(name, **kwargs, hard_reset=needs_new_model(name))
        except (TypeError, KeyError, AssertionError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"robosuite cannot make {name!r} from its env_kwargs: {text}"
            ) from error
        release_memory(simulator)
        return simulator

    def _succeeded(self) -> bool:
        return bool(self._simulator._check_success())

    def _vector(self, observations: Mapping[str, Any]) -> NDArray[np.float32]:
        named = _renamed(observations)
        try:
            parts = [np.ravel(named[key]) for key in self.obs_keys]
        except KeyError as error:
            raise ValueError(
                f"{self.env_args['env_name']} has no observation {error.args[0]!r}; "
                f"it has {', '.join(sorted(named))}"
            ) from error
        return np.concatenate(parts, dtype=np.float32, casting="same_kind")


def read_env_args(path: str | Path) -> EnvArgs:
    """`env_args` of a RoboMimic file.

    Args:
        path: HDF5 file.
    Raises:
        FileNotFoundError, ValueError: As `rllib_fmq.data.formats.robomimic_hdf5.read_env_args`.
    """
    # Only here: an environment that is made from a task's name needs no reader of datasets.
    from rllib_fmq.data.formats import robomimic_hdf5

    return robomimic_hdf5.read_env_args(path)


def _renamed(observations: Mapping[str, Any]) -> dict[str, Any]:
    """RoboMimic calls robosuite's `object-state` `object`, and leaves the other unions out."""
    named = {key: value for key, value in observations.items() if not key.endswith("-state")}
    if "object-state" in observations:
        named["object"] = observations["object-state"]
    return named


def make_robomimic_env(
    task: Task | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """Make a RoboMimic task with its episode limit.

    Args:
        task: Record of the task; None if `env_args` are given.
        env_args: `env_args` of a file, instead of the task's default ones.
        max_episode_steps: Episode limit; by default that of the task with this environment, and
            `DEFAULT_EPISODE_STEPS` if there is none.
        **kwargs: Passed to `RobomimicEnv`: obs_keys, reward_shift, render_mode, width, height,
            camera.
    Raises:
        ModuleNotFoundError: If robosuite is not installed.
        ValueError: If neither a RoboMimic task nor env_args are given, they name different
            environments, or `RobomimicEnv` refuses them.
    """
    if task is None and env_args is None:
        raise ValueError("name a RoboMimic task, or pass the env_args of a file")
    if task is not None:
        if task.benchmark != "robomimic":
            raise ValueError(f"{task.name!r} is no task of RoboMimic")
        kwargs.setdefault("reward_shift", task.reward_shift)
        if env_args is None:
            env_args = default_env_args(task.name)
        elif env_args.get("env_name") != task.environment:
            raise ValueError(
                f"task {task.name!r} is robosuite's {task.environment!r}, but env_args name "
                f"{env_args.get('env_name')!r}"
            )
    if max_episode_steps is None:
        name = str((env_args or {}).get("env_name"))
        limits = {spec.environment: spec.max_episode_steps for spec in ROBOMIMIC.values()}
        max_episode_steps = limits.get(name, DEFAULT_EPISODE_STEPS)
    if max_episode_steps < 1:
        raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
    env = RobomimicEnv(env_args or {}, **kwargs)
    env.spec = EnvSpec(
        id=f"robomimic/{env.env_args['env_name']}",
        entry_point="rllib_fmq.tasks.robomimic:RobomimicEnv",
        max_episode_steps=max_episode_steps,
        kwargs={"env_args": env.env_args, **kwargs},
    )
    return TimeLimit(env, max_episode_steps)
