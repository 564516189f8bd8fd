"""Scripted manipulation data: the oracles that ship in the ogbench package, target after target."""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
from types import NoneType
from typing import Any

import gymnasium
import numpy as np

from rllib_fmq.data.formats.npz import Arrays
from rllib_fmq.data.generation.collect import EpisodeJob
from rllib_fmq.data.generation.task_goals import Director
from rllib_fmq.tasks.registry import import_ogbench
from rllib_fmq.tasks.seeding import global_numpy_random

_MAX_ATTEMPTS = 100
_MIN_NORM = 0.4
# Range from which an episode draws its probability of stacking, by number of cubes.
# Source: the official play and noisy datasets; octuple as for the larger of them.
_STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
# Noise of the closed-loop oracle, relative to its level: x, y, z, yaw, gripper.
_MARKOV_NOISE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])


def _make(gym_id: str) -> Any:
    import_ogbench()
    with warnings.catch_warnings():
        # The simulators probe for a display when first used; nothing is rendered here.
        warnings.simplefilter("ignore")
        env = gymnasium.make(
            gym_id,
            disable_env_checker=True,
            mode="data_collection",
            terminate_at_goal=False,
            visualize_info=False,
        )
        env.reset(seed=0)
    return env.unwrapped  # its time limit is not ours


class _Scene:
    """A data-collection environment that can be brought back to its first state.

    Compiling the model takes a second, so a process keeps it. But OGBench carries targets, button
    states and joint damping from one episode to the next. Nothing of that may reach the data, or it
    would depend on how episodes are dealt out to processes; restoring takes 2% of an episode.
    """

    def __init__(self, gym_id: str) -> None:
        self.base = _make(gym_id)
        plain = (bool, int, float, str, NoneType, np.ndarray)
        self._attributes = {
            name: copy.deepcopy(value)
            for name, value in vars(self.base).items()
            if isinstance(value, plain)
        }
        self._model = copy.copy(self.base._model)

    def restore(self) -> None:
        import mujoco

        vars(self.base).update(copy.deepcopy(self._attributes))
        self.base._model = copy.copy(self._model)
        self.base._data = mujoco.MjData(self.base._model)


@functools.lru_cache(maxsize=1)
def _scene(gym_id: str) -> _Scene:
    return _Scene(gym_id)


def _oracles(job: EpisodeJob, env: Any) -> dict[str, Any]:
    """OGBench's oracle for each kind of target in the environment."""
    puzzle = job.name.environment.startswith("puzzle")
    button: dict[str, Any] = {"gripper_always_closed": True} if puzzle else {}
    if job.recipe.policy == "plan":
        from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle as Button
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle as Cube
        from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle as Drawer
        from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle as Window

        common = {"env": env, "noise": job.noise, "noise_smoothing": job.noise_smoothing}
        cube: dict[str, Any] = {}
    else:
        from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle as Button
        from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle as Cube
        from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle as Drawer
        from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle as Window

        common = {"env": env, "min_norm": _MIN_NORM}
        cube = {"max_step": 100} if job.name.environment == "scene" else {}
    if puzzle:
        return {"button": Button(**button, **common)}
    oracles = {"cube": Cube(**cube, **common)}
    if job.name.environment == "scene":
        oracles["button"] = Button(**button, **common)
        oracles["drawer"] = Drawer(**common)
        oracles["window"] = Window(**common)
    return oracles


def record(job: EpisodeJob) -> Arrays:
    """Record one episode; a scene whose cube got lost is recorded anew.

    Args:
        job: What to record.
    Returns:
        As `run_job`.
    Raises:
        RuntimeError: If every attempt went wrong.
    """
    scene = _scene(job.name.goal_conditioned_id)
    for attempt in range(_MAX_ATTEMPTS):
        seed, random = job.random(attempt)
        scene.restore()
        with global_numpy_random(random):
            arrays = _episode(job, scene, seed)
        if job.name.environment != "scene" or _cube_in_sight(arrays["qpos"]):
            return arrays
    raise RuntimeError(f"{_MAX_ATTEMPTS} recordings of episode {job.key} all lost the cube")


def _episode(job: EpisodeJob, scene: _Scene, seed: int) -> Arrays:
    base = scene.base
    obs, info = base.reset(seed=seed)
    low, high = _STACKING.get(job.name.environment, (0.5, 0.5))
    p_stack = np.random.uniform(low, high)
    level = np.random.uniform(0.0, job.noise) if job.recipe.policy == "markov" else 0.0
    oracles = _oracles(job, base)
    director = None
    if job.task is not None:
        director = Director(base, job.name.environment.partition("-")[0], job.task)
        obs, info = director.start()
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(obs, info)

    rows: dict[str, list[Any]] = {"observations": [], "actions": [], "qpos": [], "qvel": []}
    has_buttons = "prev_button_states" in info
    if has_buttons:
        rows["button_states"] = []
    # The last row holds the final state; its action is what would come next, as in OGBench's files.
    for step in itertools.count():
        if np.random.uniform() < job.recipe.random_actions:
            action = np.random.uniform(-1.0, 1.0, size=5)
        else:
            action = oracle.select_action(obs, info)
            if level:
                action = action + np.random.normal(0.0, level * _MARKOV_NOISE)
        action = np.clip(action, -1.0, 1.0)
        following, _, _, _, info = base.step(action)
        rows["observations"].append(obs)
        rows["actions"].append(action)
        rows["qpos"].append(info["prev_qpos"])
        rows["qvel"].append(info["prev_qvel"])
        if has_buttons:
            rows["button_states"].append(info["prev_button_states"])
        if step == job.steps:
            break
        obs = following
        if oracle.done:
            set_target = base.set_new_target if director is None else director.next_target
            target_obs, info = set_target(p_stack=p_stack)
            oracle = oracles[info["privileged/target_task"]]
            oracle.reset(target_obs, info)
    arrays: Arrays = {
        name: np.array(values, np.int64 if name == "button_states" else np.float32)
        for name, values in rows.items()
    }
    arrays["terminals"] = np.arange(job.steps + 1) == job.steps
    return arrays


def _cube_in_sight(qpos: np.ndarray[Any, Any]) -> bool:
    """Whether the cube stayed where a camera sees it, or in the drawer.

    Source: OGBench's rule for its scene datasets; else goal images are ambiguous.
    """
    y, z = qpos[:, 15], qpos[:, 16]
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not bool((y >= 0.29).any() or too_far_left.any())
