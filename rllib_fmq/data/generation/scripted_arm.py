"""Move a robosuite Panda through end-effector actions alone, better or worse on purpose.

A scripted policy is a generator of actions: it reads the simulator's state, yields an action of
seven numbers in [-1, 1], and is resumed after the environment has stepped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Vector: TypeAlias = npt.NDArray[np.float64]
Actions: TypeAlias = Iterator[Vector]
Move: TypeAlias = Generator[Vector, None, bool]

OPEN, CLOSED = -1.0, 1.0
"""Gripper commands."""

ACTION_METRES = 0.05
ACTION_RADIANS = 0.5
"""What an action of 1 asks of the OSC_POSE controller, in each direction and about each axis."""

FORWARD = math.pi / 2
"""Yaw from which the wrist turns equally far both ways; the arm starts there. Radians."""

_GRIP_STEPS = 8
_LARGEST_TURN = 1.0  # radians asked for at once: half a turn could go either way round


@dataclass(frozen=True)
class Style:
    """How well a demonstrator does; fixed for one demonstration.

    Args:
        tier: "better", "okay" or "worse".
        gain: Part of the distance to the next way-point that an action asks for, > 0.
        noise: Standard deviation of the noise on an action's first six numbers, action units.
        speed: Largest absolute value of an action's first six numbers before noise, in (0, 1].
        detour: Standard deviation, in metres, by which way-points in free space are off.
        miss: Probability that a grasp is aimed beside the object.
        pause: Mean number of steps that the arm rests between movements.
    """

    tier: str
    gain: float
    noise: float
    speed: float
    detour: float
    miss: float
    pause: float


# Ranges of (gain, noise, speed), then (detour, miss, pause).
_TIERS: dict[str, tuple[tuple[tuple[float, float], ...], tuple[float, float, float]]] = {
    "better": (((0.9, 1.1), (0.0, 0.1), (0.9, 1.0)), (0.0, 0.0, 0.0)),
    "okay": (((0.7, 1.0), (0.1, 0.25), (0.65, 0.9)), (0.02, 0.05, 1.0)),
    "worse": (((0.6, 0.9), (0.25, 0.4), (0.5, 0.75)), (0.05, 0.2, 3.0)),
}

TIERS: tuple[str, ...] = tuple(_TIERS)
"""Quality tiers, the best first."""


def draw_style(tier: str, rng: np.random.Generator) -> Style:
    """Draw one demonstrator of a tier.

    Args:
        tier: One of `TIERS`.
        rng: Generator.
    """
    ranges, (detour, miss, pause) = _TIERS[tier]
    gain, noise, speed = (float(rng.uniform(low, high)) for low, high in ranges)
    return Style(tier, gain, noise, speed, detour, miss, pause)


def nearest_angle(angle: float, reference: float, period: float) -> float:
    """The angle equal to `angle` up to multiples of `period` that is nearest to `reference`.

    Args:
        angle: Radians.
        reference: Radians.
        period: Radians, > 0.
    """
    return angle - period * round((angle - reference) / period)


class Arm:
    """A robosuite Panda in one episode: its pose, and movements as generators of actions.

    Args:
        sim_env: robosuite environment with one Panda under OSC_POSE, deltas in the world frame.
        style: How to move.
        rng: Source of the noise.
    """

    def __init__(self, sim_env: Any, style: Style, rng: np.random.Generator) -> None:
        self.style = style
        self._data = sim_env.sim.data
        self._site = sim_env.robots[0].eef_site_id["right"]
        self._rng = rng

    @property
    def position(self) -> Vector:
        """Point between the finger tips, metres, world frame."""
        return np.array(self._data.site_xpos[self._site])

    @property
    def rotation(self) -> Vector:
        """Rotation matrix of the grip; its first column is the direction the fingers open in."""
        return np.array(self._data.site_xmat[self._site]).reshape(3, 3)

    @property
    def yaw(self) -> float:
        """Angle about z of the direction the fingers open in, radians, within pi of `FORWARD`."""
        x, y, _ = self.rotation[:, 0]
        return nearest_angle(math.atan2(y, x), FORWARD, 2 * math.pi)

    def off(self, spread: float) -> Vector:
        """A random horizontal offset with standard deviation `spread` (metres) per axis."""
        return np.append(self._rng.normal(0.0, spread, 2), 0.0) if spread else np.zeros(3)

    def misses(self) -> bool:
        """Whether the next grasp is aimed beside the object."""
        return bool(self._rng.random() < self.style.miss)

    def act(self, goal: Vector, yaw: float, gripper: float, speed: float = 1.0) -> Vector:
        """One action towards a pose with the gripper pointing down.

            clip(gain * error / unit, -limit, limit) + speed * noise,    limit = speed * style.speed

        Who moves slowly moves steadily: the noise shrinks with the speed.

        Args:
            goal: Position, metres, world frame.
            yaw: Direction in which the fingers open, radians, within pi of `FORWARD`.
            gripper: `OPEN` or `CLOSED`.
            speed: Factor on the style's speed.
        Returns:
            Shape (7,), in [-1, 1].
        """
        yaw = self.yaw + min(max(yaw - self.yaw, -_LARGEST_TURN), _LARGEST_TURN)
        down = Rotation.from_euler("z", yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
        turn = down * Rotation.from_matrix(self.rotation).inv()
        error = np.concatenate(
            [(goal - self.position) / ACTION_METRES, turn.as_rotvec() / ACTION_RADIANS]
        )
        limit = self.style.speed * speed
        noise = self._rng.normal(0.0, speed * self.style.noise, 6)
        action = np.clip(self.style.gain * error, -limit, limit) + noise
        return np.append(np.clip(action, -1.0, 1.0), gripper)

    def reach(
        self,
        goal: Callable[[], tuple[Vector, float]],
        gripper: float,
        *,
        tolerance: float,
        turn_tolerance: float = 0.15,
        speed: float = 1.0,
        max_steps: int = 50,
        unless: Callable[[], bool] | None = None,
    ) -> Move:
        """Move until the grip is at a goal.

        Args:
            goal: Gives position (metres) and yaw (radians); asked before every step.
            gripper: `OPEN` or `CLOSED`.
            tolerance: Distance at which the goal is reached, metres.
            turn_tolerance: Angle about z at which it is, radians.
            speed: Factor on the style's speed.
            max_steps: Steps after which to go on as if it were reached.
            unless: Condition on which to give up.
        Returns:
            False if it was given up.
        """
        # Slow arms need longer, and noisy ones cannot hold still to the millimetre.
        tolerance += 0.03 * speed * self.style.noise
        for _ in range(round(max_steps / min(1.0, self.style.speed * speed))):
            if unless is not None and unless():
                return False
            position, yaw = goal()
            distance = float(np.linalg.norm(position - self.position))
            if distance < tolerance and abs(yaw - self.yaw) < turn_tolerance:
                break
            yield self.act(position, yaw, gripper, speed)
        return True

    def hold(self, gripper: float, steps: int = _GRIP_STEPS) -> Actions:
        """Stay and open or close the gripper.

        Args:
            gripper: `OPEN` or `CLOSED`.
            steps: How long.
        """
        position, yaw = self.position, self.yaw
        for _ in range(steps):
            yield self.act(position, yaw, gripper)

    def rest(self, gripper: float) -> Actions:
        """Hesitate, as long as the style has it."""
        if self.style.pause:
            yield from self.hold(gripper, int(self._rng.poisson(self.style.pause)))
