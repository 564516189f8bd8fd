"""One scripted demonstration: what it depends on, and its recording."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from rllib_fmq.data.formats.robomimic_writer import Demo
from rllib_fmq.data.generation.scripted_arm import Arm, draw_style
from rllib_fmq.data.generation.scripted_robosuite import POLICIES
from rllib_fmq.tasks.catalog import ROBOMIMIC
from rllib_fmq.tasks.robomimic import RobomimicEnv, default_env_args

_MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class DemoJob:
    """Everything a demonstration depends on: the same job gives the same arrays, anywhere.

    Args:
        task: "lift", "can" or "square".
        tier: Quality of the demonstrator.
        seed: The dataset's seed.
        number: Number of the demonstration in the dataset.
        keep_failures: Whether the first attempt is kept whatever its outcome; otherwise it is
            repeated, each time with another start and demonstrator, until one succeeds.
    """

    task: str
    tier: str
    seed: int
    number: int
    keep_failures: bool


@functools.lru_cache(maxsize=1)
def _environment(task: str) -> RobomimicEnv:
    """A process keeps its environment: making one takes seconds."""
    return RobomimicEnv(default_env_args(task), reward_shift=0.0)


def record_demo(job: DemoJob) -> Demo:
    """Record a demonstration.

    Args:
        job: What to record.
    Returns:
        The demonstration, which ends with success or at the task's step limit; its attributes are
        the demonstrator's tier, gain, noise and speed, and the number of attempts that it took.
    Raises:
        RuntimeError: If every attempt failed.
    """
    for attempt in range(_MAX_ATTEMPTS):
        demo = _attempt(job, attempt)
        if job.keep_failures or np.any(demo.rewards):
            return demo
    raise RuntimeError(
        f"{_MAX_ATTEMPTS} attempts at demonstration {job.number} of {job.task} "
        f"({job.tier}, seed {job.seed}) all failed; this should not happen, please report it"
    )


def record_outcome(job: DemoJob) -> tuple[bool, int]:
    """Whether a demonstration succeeds, and its number of steps."""
    rewards = np.asarray(record_demo(job).rewards)
    return bool(rewards.any()), len(rewards)


def _attempt(job: DemoJob, attempt: int) -> Demo:
    sequence = np.random.SeedSequence(job.seed, spawn_key=(job.number, attempt))
    reset, script = sequence.spawn(2)
    rng = np.random.default_rng(script)
    style = draw_style(job.tier, rng)
    env = _environment(job.task)
    env.reset(seed=int(reset.generate_state(1)[0]))

    observations, states = [env.observations()], []
    actions, rewards = [], []
    actor = POLICIES[job.task](env.simulator, Arm(env.simulator, style, rng))
    for action in itertools.islice(actor, ROBOMIMIC[job.task].max_episode_steps):
        states.append(env.state())
        _, reward, success, _, _ = env.step(action)
        observations.append(env.observations())
        actions.append(action)
        rewards.append(reward)
        if success:
            break

    columns = {key: np.stack([row[key] for row in observations]) for key in observations[0]}
    return Demo(
        obs={key: column[:-1] for key, column in columns.items() if _is_recorded(key)},
        next_obs={key: column[1:] for key, column in columns.items() if _is_recorded(key)},
        actions=np.stack(actions),
        rewards=np.array(rewards),
        dones=np.arange(1, len(actions) + 1) == len(actions),
        states=np.stack(states),
        attrs={
            "tier": style.tier,
            "gain": style.gain,
            "noise": style.noise,
            "speed": style.speed,
            "attempts": attempt + 1,
        },
    )


def _is_recorded(key: str) -> bool:
    """RoboMimic's files hold the robot's observations, and the objects' only as `object`."""
    return key == "object" or key.startswith("robot0_")
