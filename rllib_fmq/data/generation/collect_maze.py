"""Maze data: from goal to goal along shortest paths of the maze's own grid."""

from __future__ import annotations

import functools
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.formats.npz import Arrays
from rllib_fmq.data.generation.collect import EpisodeJob
from rllib_fmq.tasks.registry import import_ogbench
from rllib_fmq.tasks.seeding import global_numpy_random

Cell = tuple[int, int]
Act = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""From an observation and a unit vector towards the next way-point to an action without noise."""

_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1))


class MazeGraph:
    """The free cells of a maze and the distances between them.

    Args:
        walls: Maze map, shape (rows, columns), 1 for a wall; the border is all wall.
    """

    def __init__(self, walls: NDArray[np.integer[Any]]) -> None:
        self._free = walls == 0
        self.cells: list[Cell] = [(int(i), int(j)) for i, j in np.argwhere(self._free)]
        self._distances = functools.cache(self._search)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Free cells beside a cell."""
        i, j = cell
        return [(i + di, j + dj) for di, dj in _NEIGHBOURS if self._free[i + di, j + dj]]

    def junctions(self) -> list[Cell]:
        """Free cells that are more than the middle of a straight corridor: corners, ends, forks."""
        return [cell for cell in self.cells if not self._in_corridor(cell)]

    def _in_corridor(self, cell: Cell) -> bool:
        around = self.neighbours(cell)
        if len(around) != 2:
            return False
        (a, b), (c, d) = around
        return a == c or b == d

    def _search(self, goal: Cell) -> dict[Cell, int]:
        distances = {goal: 0}
        queue = deque([goal])
        while queue:
            cell = queue.popleft()
            for other in self.neighbours(cell):
                if other not in distances:
                    distances[other] = distances[cell] + 1
                    queue.append(other)
        return distances

    def next_cell(self, cell: Cell, goal: Cell) -> Cell:
        """First cell on a shortest path; the cell itself if it is the goal, or there is no path."""
        distances = self._distances(goal)
        if cell not in distances:
            return cell
        closer = [other for other in self.neighbours(cell) if distances[other] < distances[cell]]
        return closer[0] if closer else cell

    def reachable(self, start: Cell, goals: list[Cell]) -> list[Cell]:
        """Those of the goals to which a path leads from a cell."""
        distances = self._distances(start)
        return [goal for goal in goals if goal in distances]


@functools.lru_cache(maxsize=1)
def maze(gym_id: str) -> tuple[Any, MazeGraph]:
    """A goal-conditioned maze, made once a process, and the graph of its cells."""
    import_ogbench()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the simulators probe for a display when first used
        env = gymnasium.make(gym_id, disable_env_checker=True, terminate_at_goal=False)
    base: Any = env.unwrapped
    return base, MazeGraph(base.maze_map)


def record(job: EpisodeJob) -> Arrays:
    """Record one episode of a point that walks from goal to goal.

    Args:
        job: What to record.
    Returns:
        As `run_job`.
    """
    base, graph = maze(job.name.goal_conditioned_id)
    seed, random = job.random(attempt=0)
    with global_numpy_random(random):
        return walk(job, base, graph, seed, lambda obs, direction: direction)


def _draw(cells: list[Cell]) -> Cell:
    return cells[np.random.randint(len(cells))]


def walk(job: EpisodeJob, base: Any, graph: MazeGraph, seed: int, act: Act) -> Arrays:
    """Record one episode from goal to goal; draws from NumPy's global generator, as OGBench does.

    Args:
        job: What to record.
        base: Maze.
        graph: Its cells.
        seed: Of the reset.
        act: What follows a direction.
    Returns:
        As `run_job`.
    """
    junctions = graph.junctions()
    start = _draw(graph.cells)
    goal = _draw(graph.reachable(start, junctions) or [start])
    obs, _ = base.reset(seed=seed, options={"task_info": {"init_ij": start, "goal_ij": goal}})
    rows: dict[str, list[Any]] = {"observations": [], "actions": [], "qpos": [], "qvel": []}
    for _ in range(job.steps + 1):
        position = base.get_xy()
        cell = base.xy_to_ij(position)
        if cell == goal:
            waypoint = np.asarray(base.cur_goal_xy)
        else:
            waypoint = np.asarray(base.ij_to_xy(graph.next_cell(cell, goal)))
        direction = waypoint - position
        direction = direction / (np.linalg.norm(direction) + 1e-6)
        action = act(obs, direction)
        action = np.clip(action + np.random.normal(0.0, job.noise, size=len(action)), -1.0, 1.0)
        following, _, _, _, info = base.step(action)
        rows["observations"].append(obs)
        rows["actions"].append(action)
        rows["qpos"].append(info["prev_qpos"])
        rows["qvel"].append(info["prev_qvel"])
        obs = following
        if info["success"]:
            here = base.xy_to_ij(base.get_xy())
            goal = _draw(graph.reachable(here, junctions) or [here])
            base.set_goal(goal_xy=base.add_noise(base.ij_to_xy(goal)))
    arrays: Arrays = {name: np.array(values, np.float32) for name, values in rows.items()}
    arrays["terminals"] = np.arange(job.steps + 1) == job.steps
    return arrays
