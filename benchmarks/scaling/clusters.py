"""Clusters that were not measured: up to 1,000 env-runners and 8 GPUs, from stated assumptions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

from benchmarks.scaling.model import Pieces, Setup, bottleneck, knee, simulate
from rllib_fmq.atomic import replacing

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

MOST = 1_000
NEARLY_LINEAR = 0.85
MARKS = {"environment": "o", "acting": "D", "update": "s", "driver": "^", "network": "v"}


@dataclass(frozen=True)
class Assumptions:
    """What this machine cannot tell."""

    gpu_update: float = 3e-3
    """Seconds of an update of a GPU's batch, at the paper's sizes."""
    learner_bandwidth: float = 100e9
    """Bytes a second between GPUs of one node."""
    learner_latency: float = 20e-6
    """Seconds of an exchange between two of them."""
    bandwidth: float = 1.25e9
    """Bytes a second of the driver's network: 10 Gbit/s."""
    cores_per_node: int = 64
    """One env-runner a core."""
    spread: float = 0.05
    """Standard deviation of an env-runner's time for a round, as a share of it."""


class Workload(NamedTuple):
    """An environment, and how it is run."""

    env_step: float
    env_wait: float
    envs: int


WORKLOADS = {
    "10 Hz robot": Workload(0.0, 0.1, 1),
    "1 ms simulator, 8 an env-runner": Workload(1e-3, 0.0, 8),
    "20 ms simulator": Workload(20e-3, 0.0, 1),
}
TRAININGS = {
    "1 GPU, UTD 1": (1, 1.0),
    "8 GPUs, UTD 1/8": (8, 1 / 8),
    "collection alone": (1, 0.0),
}
"""Learners and updates a step. Each learner has the whole batch, so that the first two train on as
many windows a step."""


class Point(NamedTuple):
    """Of a curve."""

    runners: int
    steps_per_second: float
    part: str
    """Of ``model.PARTS``: what saturates."""


class Answer(NamedTuple):
    """A line of the table; rates are steps a second."""

    workload: str
    training: str
    nearly_linear: int
    """The most env-runners with ``NEARLY_LINEAR`` of what they could collect."""
    half: int
    """The same with half of it: where the rates of both sides are about equal."""
    at_half: float
    saturated: str
    """What keeps twice as many from more."""
    at_most: float
    """Of ``MOST`` env-runners."""
    at_most_lag_2: float
    """The same with ``max_policy_lag`` 2."""
    saturated_at_most: str


def cluster(
    pieces: Pieces, assumed: Assumptions, workload: str, training: str, runners: int, lag: int = 1
) -> tuple[Pieces, Setup]:
    """Pieces and numbers of one case.

    Args:
        pieces: Measured ones at the paper's sizes.
        assumed: All else.
        workload: Of ``WORKLOADS``.
        training: Of ``TRAININGS``.
        runners: Env-runners.
        lag: ``max_policy_lag``.
    """
    env_step, env_wait, envs = WORKLOADS[workload]
    learners, utd = TRAININGS[training]
    own = replace(pieces, env_step=env_step, env_wait=env_wait, update=assumed.gpu_update)
    return own, Setup(
        runners=runners,
        envs=envs,
        lag=lag,
        utd=utd,
        learners=learners,
        learner_bandwidth=assumed.learner_bandwidth,
        learner_latency=assumed.learner_latency,
        bandwidth=assumed.bandwidth,
        runners_per_node=assumed.cores_per_node,
        spread=assumed.spread,
    )


def curve(pieces: Pieces, assumed: Assumptions, workload: str, training: str) -> list[Point]:
    """Throughput by env-runners."""
    points = []
    for runners in sorted({round(n) for n in np.geomspace(1, MOST, 19)}):
        case = cluster(pieces, assumed, workload, training, runners)
        points.append(Point(runners, simulate(*case).steps_per_second, bottleneck(*case)))
    return points


def answer(pieces: Pieces, assumed: Assumptions, workload: str, training: str) -> Answer:
    """Where the knee is, and what saturates."""

    def case(runners: int, lag: int = 1) -> tuple[Pieces, Setup]:
        return cluster(pieces, assumed, workload, training, runners, lag)

    def rate(runners: int, lag: int = 1) -> float:
        return simulate(*case(runners, lag)).steps_per_second

    half = knee(*case(1), 0.5, MOST)
    return Answer(
        workload,
        training,
        knee(*case(1), NEARLY_LINEAR, MOST),
        half,
        rate(max(1, half)),
        bottleneck(*case(min(MOST, max(1, 2 * half)))),
        rate(MOST),
        rate(MOST, lag=2),
        bottleneck(*case(MOST)),
    )


def table(answers: list[Answer]) -> str:
    """Markdown."""
    lines = [
        f"| environment | training | {NEARLY_LINEAR:.0%} of linear up to | half of linear up to "
        f"| steps/s there | saturates | steps/s of {MOST:,} | with lag 2 | saturates |",
        "|---|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for row in answers:
        bends = " | ".join(f"{n:,}" if n else "none" for n in (row.nearly_linear, row.half))
        lines.append(
            f"| {row.workload} | {row.training} | {bends} | {row.at_half:,.0f} | {row.saturated} "
            f"| {row.at_most:,.0f} | {row.at_most_lag_2:,.0f} | {row.saturated_at_most} |"
        )
    return "\n".join(lines)


def draw(curves: dict[str, dict[str, list[Point]]], image: Path) -> None:
    """Throughput by env-runners: a panel a workload, a line a training, marks for the parts.

    Args:
        curves: Points by workload and training.
        image: PNG to write.
    """
    figure, panels = plt.subplots(1, len(curves), figsize=(11, 4), constrained_layout=True)
    for panel, (workload, lines) in zip(panels, curves.items(), strict=True):
        for index, points in enumerate(lines.values()):
            colour = f"C{index}"
            runners = [point.runners for point in points]
            panel.plot(runners, [point.steps_per_second for point in points], color=colour)
            for point in points:
                mark = MARKS[point.part]
                panel.plot(point.runners, point.steps_per_second, mark, color=colour, markersize=4)
        panel.set(xscale="log", yscale="log", title=workload, xlabel="env-runners")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("environment steps / s")
    trainings = list(next(iter(curves.values())))
    handles = [Line2D([], [], color=f"C{i}", label=name) for i, name in enumerate(trainings)]
    used = {p.part for lines in curves.values() for points in lines.values() for p in points}
    handles += [
        Line2D([], [], color="gray", marker=mark, linestyle="", label=f"saturated: {part}")
        for part, mark in MARKS.items()
        if part in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    with replacing(image) as path:
        figure.savefig(path, dpi=120)
    plt.close(figure)
