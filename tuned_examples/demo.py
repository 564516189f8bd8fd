"""From nothing to a policy that improves online: what ``make demo`` runs.

Generates a dataset of scripted play, trains a flow-map policy on it offline, improves it
online with FMQ, and evaluates the offline policy, FMQ with best-of-N, and FMQ with QGBS on
the same unseen seeds. Writes a table, curves.png and rollout.mp4.

    python tuned_examples/demo.py [--output demo] [--steps 100000] [--episodes 50]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATASET = "cube-single-play-v0"
EVALUATIONS = (
    ("offline policy, best of 32", "offline", "best_of_n"),
    ("FMQ, best of 32", "online", "best_of_n"),
    ("FMQ, QGBS", "online", "qgbs"),
)
ARTIFACTS = ("table.md", "curves.png", "rollout.mp4")


def rllib(*arguments: str) -> None:
    """Run one command of the ``rllib`` CLI and show it, so that it can be typed by hand."""
    print(f"\n$ rllib {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "rllib_fmq.cli", *arguments], check=True)


def is_online(checkpoint: Path) -> bool:
    """Whether a checkpoint was written after the offline-online switch."""
    os.environ.setdefault("MUJOCO_GL", "disable")  # simulators look for a display on import
    from rllib_fmq.learner.initial_checkpoint import read_initial_state

    return read_initial_state(checkpoint).online


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--steps", type=int, default=100_000, help="transitions to generate")
    parser.add_argument("--episodes", type=int, default=50, help="evaluation episodes each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-options", default="", help="further options of `rllib train file`")
    args = parser.parse_args()
    start = time.time()
    output: Path = args.output
    output.mkdir(parents=True, exist_ok=True)

    for name in ARTIFACTS:
        (output / name).unlink(missing_ok=True)  # an earlier run's must not pass for this one's
    dataset = output / f"{DATASET}-{args.steps}-seed{args.seed}.npz"
    if not dataset.exists():
        rllib(
            "data", "generate", DATASET, "--steps", str(args.steps), "--seed", str(args.seed),
            "--val-fraction", "0",
            "--output", str(dataset),
        )  # fmt: skip
    run = output / f"fmq-{time.strftime('%Y%m%d-%H%M%S')}"
    rllib(
        "train", "file", str(HERE / "cube_single_reduced.py"), "--dataset", str(dataset),
        "--seed", str(args.seed), "--storage-path", str(output.resolve()),
        "--experiment-name", run.name, *args.train_options.split(),
    )  # fmt: skip

    checkpoints = sorted(run.glob("*/checkpoint_*"))
    offline = [path for path in checkpoints if not is_online(path)]
    rows = []
    for title, phase, selector in EVALUATIONS:
        report = output / f"{title.replace(', ', '-').replace(' ', '-').lower()}.json"
        rllib(
            "evaluate", str((offline if phase == "offline" else checkpoints)[-1]),
            "--selector", selector,
            "--episodes", str(args.episodes), "--num-workers", "2", "--output", str(report),
        )  # fmt: skip
        rows.append((title, json.loads(report.read_text())))
    for name in ARTIFACTS[1:]:
        for made in run.glob(f"*/{name}"):
            shutil.copyfile(made, output / name)

    table = [
        "| policy | success rate | 95% interval | return | median ms a decision | NFE |",
        "|---|---|---|---|---|---|",
    ]
    for title, report in rows:
        low, high = report["success_interval_95"]
        table.append(
            f"| {title} | {report['success_rate']:.2f} | [{low:.2f}, {high:.2f}] | "
            f"{report['episode_return_mean']:.1f} | {report['planning_latency_ms_median']:.1f} | "
            f"{report['nfe']:.0f} |"
        )
    (output / "table.md").write_text("\n".join(table) + "\n")
    print("\n" + "\n".join(table))
    (_, before), (_, after) = rows[:2]
    apart = after["success_interval_95"][0] > before["success_interval_95"][1]
    print(
        "\nFMQ's interval lies "
        + ("above" if apart else "NOT above")
        + f" the offline policy's: the gain is {'more' if apart else 'no more'} than chance allows."
    )
    print(f"\n{(time.time() - start) / 60:.0f} minutes. Look at:")
    for name in ARTIFACTS:
        if (output / name).exists():
            print(f"  {output / name}")


if __name__ == "__main__":
    main()
