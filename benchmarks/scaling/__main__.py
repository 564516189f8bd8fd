"""Measure the pieces, check the model on this machine, and reckon for clusters.

python -m benchmarks.scaling                              # all of it, a few minutes
python -m benchmarks.scaling --from results/scaling.json  # other assumptions, same pieces
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by Ray's processes

import json
import logging
import tempfile
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.scaling import check, clusters, measure
from benchmarks.scaling.clusters import TRAININGS, WORKLOADS, Assumptions
from benchmarks.scaling.model import Line, Pieces
from benchmarks.speed.machine import describe, load
from benchmarks.speed.problem import CUBE_DOUBLE, Sizes
from rllib_fmq.atomic import replacing

TASKS = ("Pendulum-v1", "cube-double-play-singletask-task3-v0")
ROWS = (1, 2, 4, 8, 16, 32, 64)
SELECTORS = ("best_of_n", "qgbs")
BATCHES = (64, 128, 256)


def measured(counts: list[int], sizes: Sizes) -> dict[str, Any]:
    """All measurements, as they are kept in the file."""
    torch.set_num_threads(1)
    begin, before = time.perf_counter(), load()
    numbers: dict[str, Any] = {
        "machine": describe(),
        "env_step": {task: measure.env_step(task) for task in TASKS},
        "planning": measure.planning_by_selector(sizes, SELECTORS, ROWS),
        "update": measure.updates(sizes, BATCHES),
    }
    runner = measure.runner_cost(sizes)
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    try:
        weights = measure.weight_cost(sizes)
        with tempfile.TemporaryDirectory() as folder:
            pieces, rows = check.check(Path(folder), counts)
    finally:
        ray.shutdown()
    of_paper = replace(
        pieces,
        vector_step=runner.vector_step,
        sample=runner.sample,
        step_bytes=runner.step_bytes,
        plan=tuple(numbers["planning"]["best_of_n"].items()),
        publish=weights.publish,
        load_weights=weights.load,
        weight_bytes=weights.num_bytes,
        gradient_bytes=weights.num_bytes,
    )
    return numbers | {
        "check": [row._asdict() for row in rows],
        "pieces": asdict(pieces),
        "paper_pieces": asdict(of_paper),
        "load": [before, load()],
        "seconds": time.perf_counter() - begin,
    }


def read_pieces(stored: dict[str, Any]) -> Pieces:
    """Of JSON."""
    lines = {field.name for field in fields(Pieces) if isinstance(field.default, Line)}
    values = {k: Line(*v) if k in lines else v for k, v in stored.items()}
    return Pieces(**values | {"plan": tuple((rows, s) for rows, s in stored["plan"])})


def report(numbers: dict[str, Any]) -> str:
    """Markdown of what was measured."""
    piece = read_pieces(numbers["paper_pieces"])
    ms = 1e3
    lines = ["| piece | ms |", "|---|---:|"]
    for task, seconds in numbers["env_step"].items():
        lines.append(f"| environment step, {task} | {ms * seconds:.2f} |")
    for selector, by_rows in numbers["planning"].items():
        values = ", ".join(f"{ms * seconds:.1f}" for seconds in by_rows.values())
        lines.append(f"| planning, {selector}, rows {', '.join(map(str, by_rows))} | {values} |")
    values = ", ".join(f"{ms * seconds:.0f}" for seconds in numbers["update"].values())
    lines.append(f"| update, batch {', '.join(map(str, numbers['update']))} | {values} |")
    for text, seconds in (
        ("connectors and bookkeeping, a step of 1 environment", piece.vector_step(1)),
        ("the same of 8 environments", piece.vector_step(8)),
        ("env-runner, a request whatever its length", piece.sample),
        ("env-runner takes a version of the weights over", piece.load_weights),
        ("driver publishes a version", piece.publish),
        ("driver sends a request", piece.request),
        ("to the env-runner and back", piece.latency),
        ("driver takes an answer of 50 steps", piece.answer(50)),
        ("driver puts a fragment of 50 steps for learners", piece.hand_over(50)),
        ("learner stores a fragment of 50 steps", piece.store(50)),
        ("a call to the learners", piece.call),
    ):
        lines.append(f"| {text} | {ms * seconds:.2f} |")
    lines.append(f"| search for an answer among 1,000 requests | {ms * 1_000 * piece.lookup:.2f} |")
    return "\n".join(
        [
            *lines,
            "",
            f"A step in an answer has {piece.step_bytes:.0f} bytes, the weights "
            f"{piece.weight_bytes / 1e6:.1f} MB. Load before and after: "
            f"{numbers['load'][0]:.0f}, {numbers['load'][1]:.0f}.",
            "",
            check.table([check.Compared(**row) for row in numbers["check"]]),
        ]
    )


def main() -> None:
    """Measure or read, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, help="pieces of an earlier run")
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path, default=Path("results/scaling.json"))
    parser.add_argument("--image", type=Path, default=Path("docs/images/scaling.png"))
    for field in fields(Assumptions):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    args = parser.parse_args()
    assumed = Assumptions(
        **{field.name: getattr(args, field.name) for field in fields(Assumptions)}
    )
    if args.source is None:
        numbers = json.loads(json.dumps(measured(args.runners, CUBE_DOUBLE)))
        with replacing(args.json) as path:
            path.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    else:
        numbers = json.loads(args.source.read_text(encoding="utf-8"))
    print(report(numbers) + "\n")
    pieces = read_pieces(numbers["paper_pieces"])
    cases = [(workload, training) for workload in WORKLOADS for training in TRAININGS]
    print(clusters.table([clusters.answer(pieces, assumed, *case) for case in cases]))
    curves: dict[str, dict[str, list[clusters.Point]]] = {workload: {} for workload in WORKLOADS}
    for workload, training in cases:
        curves[workload][training] = clusters.curve(pieces, assumed, workload, training)
    clusters.draw(curves, args.image)


if __name__ == "__main__":
    main()
