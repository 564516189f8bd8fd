"""Maze data of an ant or a humanoid: way-points as for the point, joints by a trained policy.

A policy may fall. An episode that ends on the ground is recorded anew from another start, a few
times at most; if every attempt falls, the one that stood longest is kept, so that a weak policy
yields a dataset too. How many such episodes a file holds is in its metadata.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.formats.npz import Arrays
from rllib_fmq.data.generation.collect import EpisodeJob
from rllib_fmq.data.generation.collect_maze import maze, walk
from rllib_fmq.tasks.seeding import global_numpy_random

MAX_ATTEMPTS = 5
"""Recordings of an episode before one that ends on the ground is kept."""

# Least z of the torso's own z axis. An ant on its side may get up again, on its back it may not.
_UPRIGHT = {"antmaze": 0.0, "humanoidmaze": 0.5}


def upright(environment: str, qpos: NDArray[np.generic]) -> NDArray[np.bool_]:
    """In which states a robot stands: its torso's own z axis points up.

        z = 1 - 2 (q_x^2 + q_y^2) / |q|^2  for the torso's orientation q

    Args:
        environment: Such as "antmaze-giant".
        qpos: Generalised positions, shape (rows, nq), as x, y, z, q_w, q_x, q_y, q_z, joints.
    Returns:
        Shape (rows,), bool: z above 0 for the ant, above 0.5 for the humanoid.
    """
    squares = np.asarray(qpos[:, 3:7], np.float64) ** 2  # not of unit length right after a reset
    z = 1.0 - 2.0 * squares[:, 1:3].sum(axis=1) / squares.sum(axis=1)
    standing: NDArray[np.bool_] = z > _UPRIGHT[environment.partition("-")[0]]
    return standing


def record(job: EpisodeJob) -> Arrays:
    """Record one episode of a robot that walks from goal to goal.

    Args:
        job: What to record; its `low_level` maps [proprioception, direction] to an action.
    Returns:
        As `run_job`.
    """
    policy = job.low_level
    if policy is None:
        raise ValueError(f"{job.name.dataset} needs a low-level policy")
    base, graph = maze(job.name.goal_conditioned_id)
    best, longest = Arrays(), -1
    for attempt in range(MAX_ATTEMPTS):
        seed, random = job.random(attempt)
        base.action_space.seed(seed)
        with global_numpy_random(random):
            arrays = walk(
                job,
                base,
                graph,
                seed,
                # Without x and y, so that the policy walks alike everywhere.
                lambda obs, direction: policy.act(np.concatenate([obs[2:], direction])),
            )
        standing = upright(job.name.environment, arrays["qpos"])
        if standing[-1]:
            return arrays
        if standing.sum() > longest:
            best, longest = arrays, int(standing.sum())
    return best
