"""Targets for the manipulation oracles that solve the environment's own tasks, one after another.

OGBench's recipe draws an oracle's targets at random; with several objects, a small dataset then
holds few states, or none, in which a task's whole goal is met. An episode that is directed starts
in a task's own initial state and gets targets that lead to its goal, then to the next task's goal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.tasks.names import NUM_TASKS

Floats = NDArray[np.float64]

_CUBE_TOLERANCE = 0.04  # m, OGBench's own
_JOINT_TOLERANCE = 0.04  # m, of drawer and window; OGBench's own
_IN_PLACE = 0.02  # m; closer than OGBench asks, so that others can be stacked on top
_ABOVE = 0.03  # m; a cube is on another if they are this close in the plane
_OCCUPIED = 0.05  # m; a cube this close to a goal is in the way
_FREE = 0.08  # m between a parked cube and everything else
_DRAWER_OPEN, _OPEN_ENOUGH = -0.16, -0.12  # m; nothing can be put into a drawer closed further
_ON_TABLE = 0.02  # m, height of a cube's centre
_TRIES_PER_OBJECT = 4


@dataclass(frozen=True)
class Target:
    """What the oracle shall do next.

    Args:
        kind: "cube", "button", "drawer" or "window".
        index: Which cube or button.
        position: The cube's x, y, z, or in [0] the drawer's or window's; not used for a button.
    """

    kind: Literal["cube", "button", "drawer", "window"]
    index: int = 0
    position: tuple[float, ...] = ()


class Director:
    """Leads an oracle through the tasks of an environment in turn, the first one from its start.

    Args:
        base: OGBench environment in data collection mode, just reset.
        family: "cube", "scene" or "puzzle".
        task: Number of the first task, 1 to 5.
    """

    def __init__(self, base: Any, family: str, task: int) -> None:
        base.set_tasks()
        self._base = base
        self._family = family
        self._task = task - 1
        self._tries = 0
        objects = getattr(base, "_num_cubes", 0) + getattr(base, "_num_buttons", 0) + 2
        self._patience = _TRIES_PER_OBJECT * objects

    @property
    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = self._base.task_infos[self._task]
        return info

    def start(self) -> tuple[Any, dict[str, Any]]:
        """Put the scene into the task's initial state, as varied as OGBench does.

        Returns:
            Observation and info of the first target.
        """
        base, random = self._base, self._base.np_random
        # Cubes keep their places in the list, as in OGBench's single tasks (no permutation).
        start = self._info.get("init", self._info)
        cubes = start.get("init_xyzs", start.get("block_xyzs", ()))
        for i, xyz in enumerate(cubes):
            joint = base._data.joint(f"object_joint_{i}")
            joint.qpos[:3] = xyz
            joint.qpos[:2] += random.uniform(-0.01, 0.01, size=2)
            joint.qpos[3:] = _upright(random.uniform(0.0, 2.0 * np.pi))
        buttons = start.get("init_button_states", start.get("button_states"))
        if buttons is not None:
            base._cur_button_states = buttons.copy()
        if self._family == "scene":
            for name, low, high in (("drawer", -0.16, 0.0), ("window", 0.0, 0.2)):
                position = start[f"{name}_pos"] + random.uniform(-0.01, 0.01)
                base._data.joint(f"{name}_slide").qpos[0] = np.clip(position, low, high)
        if buttons is not None:
            base._apply_button_states()  # this also locks and unlocks, so after the joints are set
        import mujoco

        mujoco.mj_forward(base._model, base._data)
        base.pre_step()
        base.post_step()
        return self.next_target(p_stack=0.0)

    def next_target(self, p_stack: float) -> tuple[Any, dict[str, Any]]:
        """Set the oracle's next target.

        Args:
            p_stack: Probability of stacking, for a target that is drawn at random because no task
                can be advanced (such as a cube that is shut in a drawer).
        Returns:
            Observation and info, as OGBench's `set_new_target`.
        """
        for _ in range(NUM_TASKS):
            target = None if self._tries >= self._patience else self._plan()
            if target is not None:
                self._tries += 1
                return _aim(self._base, target)
            self._task = (self._task + 1) % NUM_TASKS  # solved, or not to be solved from here
            self._tries = 0
        observation, info = self._base.set_new_target(p_stack=p_stack)
        return observation, info

    def _plan(self) -> Target | None:
        if self._family == "cube":
            return plan_cubes(self._base, self._info["goal_xyzs"])
        if self._family == "scene":
            return plan_scene(self._base, self._info["goal"])
        return plan_puzzle(self._base, self._info["goal_button_states"])


def _upright(yaw: float) -> list[float]:
    return [float(np.cos(yaw / 2.0)), 0.0, 0.0, float(np.sin(yaw / 2.0))]


def _aim(base: Any, target: Target) -> tuple[Any, dict[str, Any]]:
    """Make a target the environment's, as its own `set_new_target` does with a random one."""
    import mujoco

    base._target_task = target.kind
    if target.kind == "cube":
        base._target_block = target.index
        for i, mocap in enumerate(base._cube_target_mocap_ids):
            chosen = i == target.index
            base._data.mocap_pos[mocap] = target.position if chosen else (0.0, 0.0, -0.3)
            yaw = base.np_random.uniform(0.0, 2.0 * np.pi) if chosen else 0.0
            base._data.mocap_quat[mocap] = _upright(yaw)
    elif target.kind == "button":
        base._target_button = target.index
        pressed = (base._cur_button_states[target.index] + 1) % base._num_button_states
        base._target_button_states[target.index] = pressed
    elif target.kind == "drawer":
        base._target_drawer_pos = target.position[0]
        base._model.site("drawer_handle_center_target").pos[1] = target.position[0]
    else:
        base._target_window_pos = target.position[0]
        base._model.site("window_handle_center_target").pos[0] = target.position[0]
    mujoco.mj_kinematics(base._model, base._data)
    return base.compute_observation(), base.get_reset_info()


def _cubes(base: Any) -> Floats:
    return np.array(
        [base._data.joint(f"object_joint_{i}").qpos[:3] for i in range(base._num_cubes)]
    )


def _choose(base: Any, targets: list[Target]) -> Target | None:
    return targets[base.np_random.integers(len(targets))] if targets else None


def plan_cubes(base: Any, goals: Floats) -> Target | None:
    """Next cube to move, and where to, on the way to a goal of all cubes.

    A cube moves to its goal if nothing lies on it, what its goal rests on is in place, and nothing
    is in the way there. If no cube can, one that is in the way, or on top, is parked.

    Args:
        base: OGBench's cube environment.
        goals: Goal of each cube, shape (cubes, 3), metres.
    Returns:
        The target; None if the goal is met, or nothing can be done.
    """
    cubes = _cubes(base)
    distance = np.linalg.norm(cubes - goals, axis=1)
    if (distance <= _CUBE_TOLERANCE).all():
        return None
    in_place = distance <= _IN_PLACE
    apart = np.linalg.norm(cubes[:, None, :2] - cubes[None, :, :2], axis=-1)
    higher = cubes[None, :, 2] > cubes[:, None, 2] + 0.5 * _CUBE_TOLERANCE
    covers = (apart < _ABOVE) & higher  # [i, j]: j lies on i
    to_goal = np.linalg.norm(goals[:, None, :2] - cubes[None, :, :2], axis=-1)
    stacked = np.linalg.norm(goals[:, None, :2] - goals[None, :, :2], axis=-1) < _ABOVE
    below = stacked & (goals[None, :, 2] < goals[:, None, 2] - 0.5 * _CUBE_TOLERANCE)
    others = ~np.eye(len(cubes), dtype=bool)
    blocks = (to_goal < _OCCUPIED) & others & ~in_place[None, :]  # [i, j]: j is where i shall go

    free_top = ~covers.any(axis=1)
    pending = np.flatnonzero(~in_place)
    ready = [
        Target("cube", int(i), tuple(goals[i]))
        for i in pending
        if free_top[i] and in_place[below[i]].all() and not blocks[i].any()
    ]
    if ready:
        return _choose(base, ready)
    in_the_way = (blocks[pending] | covers[pending]).any(axis=0) & free_top
    spot = _free_spot(base, np.concatenate([cubes, goals])[:, :2])
    return _choose(base, [Target("cube", int(j), spot) for j in np.flatnonzero(in_the_way)])


def _free_spot(base: Any, taken: Floats) -> tuple[float, float, float]:
    """A place on the table, away from all cubes and goals (the farthest of 50 if none is free)."""
    low, high = base._target_sampling_bounds
    spots = base.np_random.uniform(low, high, size=(50, 2))
    clearance = np.linalg.norm(spots[:, None] - taken[None], axis=-1).min(axis=1)
    free = np.flatnonzero(clearance >= _FREE)
    best = free[0] if len(free) else clearance.argmax()
    return float(spots[best, 0]), float(spots[best, 1]), _ON_TABLE


def plan_scene(base: Any, goal: dict[str, Any]) -> Target | None:
    """Next step towards a goal of cube, drawer, window and their two locks.

    Button 0 locks and unlocks the drawer, button 1 the window. A cube goes into the drawer while it
    is open; one that is in it stays there, because the oracle does not reach into the drawer.

    Args:
        base: OGBench's scene environment.
        goal: `block_xyzs`, `button_states`, `drawer_pos`, `window_pos` of a task.
    Returns:
        The target; None if the goal is met, or cannot be met from here.
    """
    cube, cube_goal = _cubes(base)[0], goal["block_xyzs"][0]
    drawer, window = (float(base._data.joint(f"{n}_slide").qpos[0]) for n in ("drawer", "window"))
    buttons, button_goal = base._cur_button_states, goal["button_states"]
    inside = bool(base._is_in_drawer(cube))
    goes_inside = bool(cube_goal[1] < base._drawer_center[1])
    if inside and not goes_inside:
        return None

    def slide(kind: Literal["drawer", "window"], lock: int, position: float) -> Target:
        return Target(kind, 0, (position,)) if buttons[lock] == 1 else Target("button", lock)

    steps: list[Target] = []
    cube_done = inside if goes_inside else np.linalg.norm(cube - cube_goal) <= _CUBE_TOLERANCE
    if not cube_done and not goes_inside:
        steps.append(Target("cube", 0, tuple(cube_goal)))
    if not cube_done and goes_inside:
        if drawer < _OPEN_ENOUGH:
            offset = base.np_random.uniform(-0.005, 0.005, size=2)
            steps.append(Target("cube", 0, (*(base._drawer_center[:2] + offset), 0.066)))
        else:
            steps.append(slide("drawer", 0, _DRAWER_OPEN))
    elif abs(drawer - goal["drawer_pos"]) > _JOINT_TOLERANCE:
        steps.append(slide("drawer", 0, goal["drawer_pos"]))
    elif buttons[0] != button_goal[0]:
        steps.append(Target("button", 0))
    if abs(window - goal["window_pos"]) > _JOINT_TOLERANCE:
        steps.append(slide("window", 1, goal["window_pos"]))
    elif buttons[1] != button_goal[1]:
        steps.append(Target("button", 1))
    return _choose(base, steps)


def plan_puzzle(base: Any, goal: NDArray[np.integer[Any]]) -> Target | None:
    """Next button to press towards a goal of a Lights Out board.

    Args:
        base: OGBench's puzzle environment.
        goal: Goal of each button, shape (buttons,), 0 or 1.
    Returns:
        The target; None if the goal is met, or no presses lead to it.
    """
    rows, columns = base._num_rows, base._num_cols
    presses = solve_lights_out(rows, columns, (goal + base._cur_button_states) % 2)
    if presses is None:
        return None
    return _choose(base, [Target("button", int(i)) for i in np.flatnonzero(presses)])


def solve_lights_out(
    rows: int, columns: int, change: NDArray[np.integer[Any]]
) -> NDArray[np.bool_] | None:
    """Buttons whose presses change a board as wanted; a press flips a button and its neighbours.

        A p = change  (mod 2), by Gaussian elimination

    Args:
        rows: Rows of the board.
        columns: Columns of the board.
        change: 1 for each button whose state shall change, shape (rows * columns,).
    Returns:
        Which buttons to press, shape (rows * columns,); None if no presses do it.
    """
    size = rows * columns
    i, j = np.divmod(np.arange(size), columns)
    flips = np.abs(i[:, None] - i) + np.abs(j[:, None] - j) <= 1
    system = np.concatenate([flips, np.asarray(change)[:, None] == 1], axis=1)
    pivots: list[int] = []
    for column in range(size):
        rank = len(pivots)
        candidates = np.flatnonzero(system[rank:, column])
        if not len(candidates):
            continue
        first = rank + candidates[0]
        system[[rank, first]] = system[[first, rank]]
        others = np.flatnonzero(system[:, column] & (np.arange(size) != rank))
        system[others] ^= system[rank]
        pivots.append(column)
    if system[len(pivots) :, -1].any():
        return None
    presses = np.zeros(size, np.bool_)
    presses[pivots] = system[: len(pivots), -1]
    return presses
