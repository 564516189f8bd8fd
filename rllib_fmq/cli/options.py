"""The options of ``rllib train``, and how a dataclass of options becomes a Typer command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer

_RUN = "Run"
_METHOD = "Method (FMQ, QGBS, MVP, QC)"
_SCALE = "Workers and evaluation"
_RAY = "Ray"

Options = TypeVar("Options")


def _check_name(name: str | None) -> str | None:
    """A folder's name: with other ones, results would lie where nobody looks for them."""
    if name is not None and (not name.strip() or name in (".", "..") or "/" in name):
        raise typer.BadParameter(f"{name!r}: expected the name of one folder, such as cube-seed1.")
    return name


@dataclass(frozen=True)
class TrainOptions:
    """Everything that ``rllib train`` and ``rllib train file`` share."""

    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="JSON|FILE",
            help="Any config keys, as JSON or the name of a JSON file; "
            '{"eta": {"grid_search": [0.3, 1.0]}} searches.',
            rich_help_panel=_RUN,
        ),
    ] = None
    stop: Annotated[
        str | None,
        typer.Option(
            "--stop",
            "-s",
            metavar="JSON",
            help="When to stop, such as '{\"training_iteration\": 10}'. FMQ, QGBS, MVP and QC "
            "also stop when their phases are over.",
            rich_help_panel=_RUN,
        ),
    ] = None
    num_samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Trials (of each grid point). (default: 1)",
            rich_help_panel=_RUN,
        ),
    ] = None
    checkpoint_freq: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Iterations between checkpoints; 0: none.",
            rich_help_panel=_RUN,
        ),
    ] = 0
    checkpoint_at_end: Annotated[
        bool,
        typer.Option(
            help="Save a checkpoint when a trial ends; `rllib evaluate` and the video need it.",
            rich_help_panel=_RUN,
        ),
    ] = True
    num_to_keep: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Latest checkpoints of a trial to keep, two at least: Tune may still ask for the "
            "one before the last. (default: all)",
            rich_help_panel=_RUN,
        ),
    ] = None
    max_failures: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Times that a trial goes on from its last checkpoint after an error or the death "
            "of one of its processes.",
            rich_help_panel=_RUN,
        ),
    ] = 3
    storage_path: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="Folder (or cloud address) of all results.", rich_help_panel=_RUN
        ),
    ] = "~/ray_results"
    experiment_name: Annotated[
        str | None,
        typer.Option(
            "--experiment-name",
            "-n",
            metavar="NAME",
            help="Folder of this run below --storage-path. (default: algorithm and time)",
            callback=_check_name,
            rich_help_panel=_RUN,
        ),
    ] = None
    restore: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Go on from a checkpoint's complete state (networks, replay, counters), as a new "
            "run.",
            rich_help_panel=_RUN,
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the unfinished and failed trials of the experiment that "
            "--experiment-name names, with its own settings.",
            rich_help_panel=_RUN,
        ),
    ] = False
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Let the files that --resume or --restore read run code: Tune's are pickles, and "
            "so may be parts of a checkpoint. Only if you trust where they come from.",
            rich_help_panel=_RUN,
        ),
    ] = False
    artifacts: Annotated[
        bool,
        typer.Option(
            help="At the end, draw curves.png and film rollout.mp4 in each trial's folder.",
            rich_help_panel=_RUN,
        ),
    ] = True
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            help="-v: tracebacks and the workers' logs; -vv: Tune's own tables too.",
            rich_help_panel=_RUN,
        ),
    ] = 0

    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|auto",
            help="Offline data: OGBench npz, RoboMimic or D4RL HDF5, RLlib Parquet, Minari (also "
            "minari:ID), plain npz, columns. auto: the task's own, from a local folder or "
            "downloaded.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    filter_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Use only the demonstrations of this mask of a RoboMimic file, such as train.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    success_fn: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Tells success from (observation, reward, terminated, truncated, info), for "
            'environments without info["success"].',
            rich_help_panel=_METHOD,
        ),
    ] = None
    max_episode_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Episode limit in place of the environment's own.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    initial_checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Start from the networks of a checkpoint of any of the four methods instead of "
            "an offline phase.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    offline_updates: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Gradient updates offline.", rich_help_panel=_METHOD),
    ] = None
    online_env_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Primitive environment steps online.", rich_help_panel=_METHOD
        ),
    ] = None
    eta: Annotated[
        float | None,
        typer.Option(metavar="X", help="Trust-region radius of FMQ.", rich_help_panel=_METHOD),
    ] = None
    beta: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Sensitivity of the radius to critic disagreement.",
            rich_help_panel=_METHOD,
        ),
    ] = None

    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Seed.", rich_help_panel=_SCALE)
    ] = None
    num_env_runners: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Processes that collect; 0: in the trial's own.",
            rich_help_panel=_SCALE,
        ),
    ] = None
    num_learners: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Processes that learn; 0: in the trial's own.",
            rich_help_panel=_SCALE,
        ),
    ] = None
    num_gpus_per_learner: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="GPUs of each learner.", rich_help_panel=_SCALE),
    ] = None
    evaluation_interval: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Iterations between evaluations; 0: none.",
            rich_help_panel=_SCALE,
        ),
    ] = None
    evaluation_episodes: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Episodes of an evaluation.", rich_help_panel=_SCALE),
    ] = None

    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Cluster to connect to; without it Ray starts here.", rich_help_panel=_RAY
        ),
    ] = None
    ray_num_cpus: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="CPUs that Ray may hand out. (default: this machine's, or more if one trial needs "
            "more)",
            rich_help_panel=_RAY,
        ),
    ] = None
    ray_num_gpus: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="GPUs that Ray may hand out.", rich_help_panel=_RAY),
    ] = None


def takes_options(
    kind: type[Options],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command that takes one options object be called with its fields.

    Args:
        kind: Dataclass whose fields are annotated with ``typer.Option``.
    Returns:
        A decorator. The command's first parameter gets the object; its others stay.
    """
    fields = dataclasses.fields(cast(Any, kind))
    hints = get_type_hints(kind, include_extras=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own_hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=own_hints[name])
            for name, parameter in list(inspect.signature(command).parameters.items())[1:]
        ]

        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            options = kind(**{field.name: values.pop(field.name) for field in fields})
            command(options, **values)

        parameters = [
            *own,
            *(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=hints[field.name],
                )
                for field in fields
            ),
        ]
        del wrapper.__wrapped__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate
