"""Scripted policies that solve robosuite's Lift, PickPlaceCan and NutAssemblySquare.

Each is a generator of actions for the environment as it stands after a reset. None ends by itself:
when a grasp failed or the object was dropped, it begins again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rllib_fmq.data.generation.scripted_arm import (
    CLOSED,
    FORWARD,
    OPEN,
    Actions,
    Arm,
    Move,
    Vector,
    nearest_angle,
)

# Lengths in metres, heights above the floor unless they are said to be relative.
_HOVER = 0.08  # above an object, from where the gripper comes down on it
_MISS = 0.05  # by which a missed grasp is off
_LOST = 0.04  # further from where it was gripped, and an object has slipped
_CAN_GRASP = np.array([0.0, 0.0, 0.015])  # grip, from the can's centre
_CAN_LOST = 0.08
_CAN_CARRY, _CAN_DROP = 1.03, 0.93  # of the grip, over the bins' walls (0.9) and to let go
_NEARER = np.array([-0.045, -0.035])  # the arm barely reaches the centre of the compartment
_NUT_CARRY, _NUT_ALIGN, _NUT_ON_PEG = 1.0, 0.975, 0.84  # of the nut; the peg's top is at 0.95
_HANDLE_YAWS = (math.pi / 2, math.pi, -math.pi / 2)  # of a nut on the peg, radians


class _Body:
    """Pose of a body in the simulation."""

    def __init__(self, sim_env: Any, name: str) -> None:
        self._data = sim_env.sim.data
        self._id = sim_env.sim.model.body_name2id(name)

    @property
    def position(self) -> Vector:
        return np.array(self._data.body_xpos[self._id])

    @property
    def yaw(self) -> float:
        """Angle of its x axis about the world's z axis, radians."""
        matrix = np.array(self._data.body_xmat[self._id]).reshape(3, 3)
        return math.atan2(matrix[1, 0], matrix[0, 0])


def lift(sim_env: Any, arm: Arm) -> Actions:
    """Grip the cube across two of its faces and lift it.

    Args:
        sim_env: robosuite's Lift.
        arm: Its arm.
    """
    cube = _Body(sim_env, sim_env.cube.root_body)
    while True:
        yield from _pick(
            arm,
            lambda: cube.position,
            across=lambda near: nearest_angle(cube.yaw, near, math.pi / 2),
            height=0.15,
        )


def can(sim_env: Any, arm: Arm) -> Actions:
    """Grip the can, carry it over the wall between the bins, and let go in its compartment.

    Args:
        sim_env: robosuite's PickPlaceCan.
        arm: Its arm.
    """
    body = _Body(sim_env, sim_env.objects[sim_env.object_id].root_body)
    target = np.array(sim_env.target_bin_placements[sim_env.object_id][:2]) + _NEARER
    while True:
        held = yield from _pick(
            arm,
            lambda: body.position + _CAN_GRASP,
            across=lambda near: nearest_angle(FORWARD, near, math.pi),
            height=0.14,
        )
        if held:
            yield from arm.rest(CLOSED)
            yield from _drop_can(arm, body, target)


def _drop_can(arm: Arm, body: _Body, target: Vector) -> Move:
    """Carry the can to a place, let go and rise; False if it slipped on the way."""
    yaw = nearest_angle(FORWARD, arm.yaw, math.pi)
    place = np.append(target, 0.0) + arm.off(arm.style.detour / 2.0).clip(-0.02, 0.02)

    def over(height: float) -> tuple[Vector, float]:
        """Where the grip must be for the can to be above the place, itself at this height."""
        aside = arm.position - body.position
        return place + np.array([aside[0], aside[1], height]), yaw

    def slipped() -> bool:
        return bool(np.linalg.norm(body.position - arm.position) > _CAN_LOST)

    for height, tolerance in ((_CAN_CARRY, 0.03), (_CAN_DROP, 0.02)):
        held = yield from arm.reach(
            lambda: over(height),  # noqa: B023 (asked only in this round)
            CLOSED,
            tolerance=tolerance,
            unless=slipped,
        )
        if not held:
            return False
    yield from arm.hold(OPEN, 5)
    up = arm.position
    up[2] = _CAN_CARRY
    yield from arm.reach(lambda: (up, yaw), OPEN, tolerance=0.02)
    return True


def square(sim_env: Any, arm: Arm) -> Actions:
    """Grip the nut by its handle, bring its hole over the square peg, and lower it.

    Args:
        sim_env: robosuite's NutAssemblySquare.
        arm: Its arm.
    """
    nut = _Body(sim_env, sim_env.nuts[0].root_body)
    peg = _Body(sim_env, "peg1").position
    handle_site = sim_env.object_site_ids[0]

    def handle() -> Vector:
        return np.array(sim_env.sim.data.site_xpos[handle_site])

    def slipped() -> bool:
        return bool(np.linalg.norm(handle() - arm.position) > _LOST)

    while True:
        held = yield from _pick(
            arm,
            handle,
            across=lambda near: nearest_angle(nut.yaw + math.pi / 2, near, math.pi),
            height=0.17,
        )
        if held:
            yield from arm.rest(CLOSED)
            yield from _put_on_peg(arm, nut, peg, slipped)


def _put_on_peg(arm: Arm, nut: _Body, peg: Vector, slipped: Callable[[], bool]) -> Move:
    """Lower the nut onto the peg, again and again until it slips out of the grip."""
    yaw = arm.yaw + _turn_onto_peg(nut.yaw)

    def over(height: float) -> Callable[[], tuple[Vector, float]]:
        """Where the grip must be for the nut to be above the peg at this height."""
        return lambda: (arm.position + np.array([*peg[:2], height]) - nut.position, yaw)

    stages = (
        (_NUT_CARRY, 0.02, 1.0, 50),
        (_NUT_ALIGN, 0.005, 0.5, 20),
        (_NUT_ON_PEG, 0.0, 0.5, 15),
    )
    while True:
        for height, tolerance, speed, max_steps in stages:
            held = yield from arm.reach(
                over(height),
                CLOSED,
                tolerance=tolerance,
                speed=speed,
                max_steps=max_steps,
                unless=slipped,
            )
            if not held:
                return False


def _turn_onto_peg(yaw: float) -> float:
    """Smallest turn that aligns the nut with the peg, its handle not pointing away from the robot.

    The hole has four-fold symmetry, but the arm does not reach a handle beyond the peg.

    Args:
        yaw: Angle of the handle about z, radians.
    Returns:
        Angle in radians.
    """
    turns = (nearest_angle(aim - yaw, 0.0, 2 * math.pi) for aim in _HANDLE_YAWS)
    return min(turns, key=abs)


def _pick(
    arm: Arm,
    grasp: Callable[[], Vector],
    *,
    across: Callable[[float], float],
    height: float,
) -> Move:
    """Grip something and lift it.

    Args:
        arm: The arm.
        grasp: Gives the point to grip, metres.
        across: Gives the direction in which the fingers may close (radians) that is nearest to its
            argument.
        height: How far to lift, metres.
    Returns:
        False if the gripper came up without it.
    """
    above = np.array([0.0, 0.0, _HOVER])
    side = across(FORWARD)  # of two opposite directions, keep to the one chosen at first
    wrong = np.zeros(3)
    if arm.misses():
        wrong = arm.off(1.0)
        wrong *= _MISS / float(np.linalg.norm(wrong))
    if arm.style.detour:
        via, turned = grasp() + 2.0 * above + 2.0 * arm.off(arm.style.detour), arm.yaw
        yield from arm.reach(lambda: (via, turned), OPEN, tolerance=0.04)
    yield from arm.reach(lambda: (grasp() + wrong + above, across(side)), OPEN, tolerance=0.015)
    yield from arm.rest(OPEN)
    yield from arm.reach(
        lambda: (grasp() + wrong, across(side)), OPEN, tolerance=0.006, speed=0.8, max_steps=30
    )
    yield from arm.hold(CLOSED)
    gripped, up, yaw = grasp() - arm.position, arm.position + np.array([0, 0, height]), arm.yaw
    held = yield from arm.reach(
        lambda: (up, yaw),
        CLOSED,
        tolerance=0.02,
        unless=lambda: bool(np.linalg.norm(grasp() - arm.position - gripped) > _LOST),
    )
    return held


POLICIES: dict[str, Callable[[Any, Arm], Actions]] = {"lift": lift, "can": can, "square": square}
"""Scripted policy of each RoboMimic task that has one."""
