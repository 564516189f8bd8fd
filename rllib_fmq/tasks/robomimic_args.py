"""What a RoboMimic file says of its environment (`env_args`), and which observations are used."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_fmq.tasks.catalog import ROBOMIMIC, parse_robomimic

EnvArgs = dict[str, Any]

ROBOSUITE_TYPE = 1
"""RoboMimic's number for "an environment of robosuite"."""

_ARM_CONTROLLER = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
    "input_ref_frame": "world",
    "gripper": {"type": "GRIP"},
}


def default_env_args(task_name: str) -> EnvArgs:
    """`env_args` as RoboMimic's v1.5 files hold them.

    Each arm has an OSC_POSE controller: an action is a change of the gripper's pose in the world's
    frame (3 of position in units of 0.05 m, 3 of rotation in units of 0.5 rad) and an opening
    (-1) or closing (1) of the gripper, at 20 Hz.

    Args:
        task_name: RoboMimic name such as "can", "square-ph" or "transport-mh-low_dim".
    Returns:
        A new dict with `env_name`, `env_version`, `type` and `env_kwargs`.
    Raises:
        ValueError: If there is no such task.
    """
    parsed = parse_robomimic(task_name)
    if parsed is None:
        raise ValueError(
            f"unknown RoboMimic task {task_name!r}; there are {', '.join(map(repr, ROBOMIMIC))}"
        )
    spec = ROBOMIMIC[parsed[0]]
    kwargs: dict[str, Any] = {
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "ignore_done": True,
        "use_object_obs": True,
        "use_camera_obs": False,
        "control_freq": 20,
        "controller_configs": {
            "type": "BASIC",
            "body_parts": {"right": copy.deepcopy(_ARM_CONTROLLER)},
        },
        "robots": ["Panda"] * spec.robots,
        "camera_depths": False,
        "camera_heights": 84,
        "camera_widths": 84,
        "lite_physics": False,
        "reward_shaping": False,
    }
    if spec.robots == 2:
        kwargs["env_configuration"] = "opposed"
    return {
        "env_name": spec.environment,
        "env_version": "1.5.1",
        "type": ROBOSUITE_TYPE,
        "env_kwargs": kwargs,
    }


def check_env_args(env_args: Any, *, source: str) -> EnvArgs:
    """Return `env_args` if they describe an environment of robosuite.

    Args:
        env_args: Decoded JSON, or what a user passed.
        source: Where they came from, for the error.
    Raises:
        ValueError: If they do not.
    """
    if not isinstance(env_args, Mapping) or not isinstance(env_args.get("env_name"), str):
        raise ValueError(
            f"{source}: env_args must be a dict with 'env_name' (a string) and 'env_kwargs' "
            f"(a dict), got {_short(env_args)}"
        )
    if not isinstance(env_args.get("env_kwargs"), Mapping):
        raise ValueError(
            f"{source}: env_kwargs in env_args must be a dict, "
            f"got {_short(env_args.get('env_kwargs'))}"
        )
    kind = env_args.get("type", ROBOSUITE_TYPE)
    if kind != ROBOSUITE_TYPE:
        raise ValueError(
            f"{source}: env_args have type {kind!r}, but only robosuite's environments "
            f"(type {ROBOSUITE_TYPE}) are supported"
        )
    return dict(env_args)


def simulator_kwargs(env_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `robosuite.make`, without cameras, windows or robosuite's own time limit.

    Files of robosuite up to 1.4 give a bare arm controller, whose frame was the world's and which
    knew no `lite_physics`: they get the same controller in the form of robosuite 1.5.

    Args:
        env_args: As `check_env_args` returns.
    """
    kwargs = copy.deepcopy(dict(env_args["env_kwargs"]))
    controllers = kwargs.get("controller_configs")
    if isinstance(controllers, list):
        kwargs["controller_configs"] = [_composite(controller) for controller in controllers]
    elif controllers is not None:
        kwargs["controller_configs"] = _composite(controllers)
    for camera_key in [key for key in kwargs if key.startswith("camera_")]:
        del kwargs[camera_key]
    kwargs.pop("hard_reset", None)
    kwargs.pop("renderer_config", None)
    return {
        "lite_physics": False,
        "reward_shaping": False,
        **kwargs,
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
        "ignore_done": True,
        "renderer": "mujoco",  # the other one makes a viewer even if it is to be without
    }


def _composite(controller: Any) -> Any:
    if not isinstance(controller, Mapping) or "body_parts" in controller:
        return controller
    arm = {"input_ref_frame": "world", "gripper": {"type": "GRIP"}, **controller}
    return {"type": "BASIC", "body_parts": {"right": arm}}


def num_robots(env_args: Mapping[str, Any]) -> int:
    """Number of robots that `env_args` name."""
    robots = env_args["env_kwargs"].get("robots", ["Panda"])
    return 1 if isinstance(robots, str) else len(robots)


def low_dim_keys(robots: int = 1) -> tuple[str, ...]:
    """Observations that make up the state of a RoboMimic task, in their order in the vector.

    They are those, and in the order, of RoboMimic's own low_dim policies: position, orientation
    (quaternion, xyzw) and fingers of each robot's gripper, then `object`, which is robosuite's
    `object-state`. The environment and the reader of files both take them from here.

    Args:
        robots: Number of robots.
    """
    per_robot = ("eef_pos", "eef_quat", "gripper_qpos")
    return (*(f"robot{i}_{name}" for i in range(robots) for name in per_robot), "object")


def check_obs_keys(obs_keys: Sequence[str]) -> tuple[str, ...]:
    """Return a user's observation keys as a tuple.

    Args:
        obs_keys: Names of observations.
    Raises:
        ValueError: If there are none, one is not a string, or one is named twice.
    """
    keys = (obs_keys,) if isinstance(obs_keys, str) else tuple(obs_keys)
    if not keys or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise ValueError(
            "obs_keys must be different names of observations, such as "
            f"{list(low_dim_keys())}, got {_short(list(keys))}"
        )
    return keys


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
