"""What a run leaves to look at: curves.png and rollout.mp4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

MOST_VIDEOS = 4
"""With more trials than this, only the best one is filmed: a video takes up to some minutes."""


def make_artifacts(trials: Sequence[Path], best: Path | None, videos: bool) -> None:
    """Draw each trial's curves, and all in one picture; film the policies.

    What cannot be made is said in one line and is no failure.

    Args:
        trials: Folders of finished trials, all of one experiment.
        best: The trial to film where there are many.
        videos: Whether the trials hold policies that can be filmed.
    """
    _draw(trials)
    if not videos:
        return
    filmed = list(trials) if len(trials) <= MOST_VIDEOS else [t for t in trials if t == best]
    for trial in filmed:
        if not _film(trial):
            return


def _draw(trials: Sequence[Path]) -> None:
    from rllib_fmq.analysis.curves import plot_curves

    jobs = [([trial], trial / "curves.png") for trial in trials]
    if len(trials) > 1:
        jobs.append((list(trials), trials[0].parent / "curves.png"))
    for sources, target in jobs:
        try:
            plot_curves(sources, target)
        except ModuleNotFoundError as error:
            typer.echo(str(error))
            return
        except (ValueError, OSError) as error:
            typer.echo(f"no plot: {error}")
            continue
        typer.echo(f"curves: {target}")


def _film(trial: Path) -> bool:
    """Whether it is worth trying the next one."""
    from rllib_fmq.rollout.checkpoints import find_checkpoint
    from rllib_fmq.rollout.video import record_in_subprocess

    try:
        checkpoint = find_checkpoint(trial)
    except FileNotFoundError:
        typer.echo("no video: the trial saved no checkpoint (--no-checkpoint-at-end).")
        return False
    lines: list[str] = []
    video = record_in_subprocess(
        checkpoint,
        trial / "rollout.mp4",
        report=lines.append,
        trust=True,  # this very command has made it
    )
    for line in lines:
        typer.echo(line if line.startswith("no video") else f"video: {line}")
    return video is not None
