"""Runs a checked request through Ray Tune."""

from __future__ import annotations

import logging
import math
import os
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any

import typer

from rllib_fmq.cli.artifacts import make_artifacts
from rllib_fmq.cli.checks import check_networks, check_places, check_request
from rllib_fmq.cli.configuration import TrainRequest, default_config, is_flow_map
from rllib_fmq.cli.errors import INTERRUPTED, CommandError, root_cause
from rllib_fmq.cli.options import TrainOptions
from rllib_fmq.cli.quiet import quiet_loggers
from rllib_fmq.cli.ray_session import start_ray

_NO_RADIUS = ("MVP", "QC")


def run_experiment(request: TrainRequest, options: TrainOptions) -> None:
    """Check everything, start Ray, run all trials, make the artifacts.

    Args:
        request: What is to be run.
        options: How.
    Raises:
        CommandError: If a trial failed.
    """
    quiet_loggers(options.verbose)
    name = options.experiment_name or f"{request.algorithm}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    check_places(options.storage_path, name, resume=False)
    checkpoint = _checkpoint_to_restore(options)
    checked = check_request(request)
    if checkpoint is not None and is_flow_map(checked):
        if checked.initial_checkpoint:
            raise CommandError(
                "--restore goes on with a run, initial_checkpoint starts another one from its "
                "networks: give one of the two.",
                exit_code=2,
            )
        check_networks(checked, checkpoint)
    _notes(request, options)
    if checkpoint is not None:
        request.config.callbacks(
            on_algorithm_init=partial(_restore, checkpoint=str(checkpoint), trust=options.trust)
        )
    _start_ray(options, request.config.algo_class.default_resource_request(checked))
    from ray import tune

    from rllib_fmq.cli.progress import ProgressCallback

    tune_config = request.tune_config or tune.TuneConfig()
    tune_config.num_samples = request.num_samples
    tuner = tune.Tuner(
        _trainable(request.config),
        param_space=request.config,
        tune_config=tune_config,
        run_config=tune.RunConfig(
            name=name,
            storage_path=_storage(options.storage_path),
            stop=dict(request.stop) or None,
            verbose=_tune_verbosity(options),
            callbacks=[ProgressCallback()],
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=options.checkpoint_freq,
                checkpoint_at_end=options.checkpoint_at_end,
                num_to_keep=options.num_to_keep and max(2, options.num_to_keep),
            ),
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
        ),
    )
    typer.echo(f"results: {options.storage_path.rstrip('/')}/{name}")
    _fit(tuner, options, name, options.max_failures)


def resume_experiment(options: TrainOptions, config: Any = None) -> None:
    """Go on with the unfinished and failed trials of an experiment.

    Args:
        options: Where it is; they must not change its settings.
        config: Its config where it came from a file; None: as the experiment tells.
    Raises:
        CommandError: If there is no such experiment, or a trial failed.
    """
    given = {k: v for k, v in vars(options).items() if v != getattr(TrainOptions(), k)}
    allowed = {"resume", "experiment_name", "storage_path", "artifacts", "verbose", "trust"}
    allowed |= {"ray_address", "ray_num_cpus", "ray_num_gpus"}
    if changed := sorted(set(given) - allowed):
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in changed)
        raise CommandError(
            f"--resume goes on with the experiment's own settings: leave {flags} away, or start a "
            "new run with --restore.",
            exit_code=2,
        )
    if options.experiment_name is None:
        raise CommandError("--resume needs --experiment-name.", exit_code=2)
    folder = check_places(options.storage_path, options.experiment_name, resume=True)
    where = str(folder or f"{options.storage_path.rstrip('/')}/{options.experiment_name}")
    if folder is None:
        raise CommandError(f"--resume works with local folders only, not with {where}.")
    if not options.trust:
        raise CommandError(
            f"--resume reads the pickles that Ray Tune keeps in {where}, and a pickle can run "
            "code: give --trust as well if that run is yours."
        )
    from ray import tune

    from rllib_fmq.registration import register_algorithms

    register_algorithms()
    quiet_loggers(options.verbose)
    _tune_verbosity(options)
    config = config or _stored_config(folder)
    _start_ray(options, config.algo_class.default_resource_request(config))
    tuner = tune.Tuner.restore(
        where, trainable=_trainable(config), resume_unfinished=True, resume_errored=True
    )
    typer.echo(f"results: {where}")
    _fit(tuner, options, options.experiment_name)


def _fit(tuner: Any, options: TrainOptions, name: str, max_failures: int = 0) -> None:
    """Run, then report: artifacts of what went well, one line for what did not.

    The line names ``max_failures`` if it is not 0.
    """
    import ray

    from rllib_fmq.tune_memory import bounded_tune_memory

    try:
        with bounded_tune_memory():
            results = tuner.fit()
    except Exception as error:
        raise CommandError(root_cause(error)) from error
    finally:
        ray.shutdown()
    failed = [result for result in results if result.error is not None]
    # A trial ends by itself with `done`; the ones that Ctrl-C ended have no such result.
    unfinished = [r for r in results if r.error is None and not (r.metrics or {}).get("done")]
    finished = [r for r in results if r.error is None and (r.metrics or {}).get("done")]
    if options.artifacts and finished:
        _make_artifacts(finished)
    if failed:
        count = f"{len(failed)} of {len(results)} trials failed: " if len(results) > 1 else ""
        bound = f" Given up: it failed more than --max-failures={max_failures} times."
        cause = root_cause(failed[0].error).rstrip(".")
        raise CommandError(f"{count}{cause}.{bound if max_failures else ''}")
    if unfinished:
        raise CommandError(
            f"interrupted; go on with: rllib train --resume --trust -n {shlex.quote(name)} "
            f"--storage-path {shlex.quote(options.storage_path)}",
            exit_code=INTERRUPTED,
        )


def _make_artifacts(finished: list[Any]) -> None:
    trials = [Path(result.path) for result in finished]
    if not all(trial.is_dir() for trial in trials):
        return  # cloud storage
    scores = [_score(result.metrics) for result in finished]
    best = trials[max(range(len(trials)), key=scores.__getitem__)]
    make_artifacts(trials, best, videos="phase" in finished[0].metrics)


def _score(metrics: dict[str, Any]) -> float:
    evaluated = (metrics.get("evaluation") or {}).get("env_runners") or {}
    for key in ("success_rate", "episode_return_mean"):
        value = evaluated.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return -math.inf


def _start_ray(options: TrainOptions, request: Any) -> None:
    start_ray(
        [request],
        address=options.ray_address,
        num_cpus=options.ray_num_cpus,
        num_gpus=options.ray_num_gpus,
        verbose=options.verbose,
    )


def _tune_verbosity(options: TrainOptions) -> int:
    """Tune's own tables only with -vv."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "1" if options.verbose > 1 else "0"
    return options.verbose if options.verbose > 1 else 0


def _storage(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _trainable(config: Any) -> Any:
    """The name under which Tune knows the algorithm, or its class."""
    from ray.rllib.algorithms.registry import ALGORITHMS

    name = config.algo_class.__name__
    return name if name in ALGORITHMS else config.algo_class


def _checkpoint_to_restore(options: TrainOptions) -> Path | None:
    if options.restore is None:
        return None
    from rllib_fmq.checkpointing.trust import check_plain_states
    from rllib_fmq.rollout.checkpoints import find_checkpoint

    checkpoint = find_checkpoint(options.restore, to_resume=True)
    if not options.trust:
        check_plain_states(checkpoint)  # RLlib's own reader would run what is in them
    return checkpoint


def _restore(*, algorithm: Any, checkpoint: str, trust: bool, **kwargs: Any) -> None:
    """RLlib callback: take over a checkpoint's state when the algorithm has been built."""
    if not is_flow_map(algorithm.config):
        algorithm.restore_from_path(checkpoint)
    elif not algorithm.has_own_checkpoint():
        # A trial that starts again goes on from its own: this one may be gone by then.
        algorithm.restore_from_path(checkpoint, trust=trust)  # it checks again


def _stored_config(folder: Path) -> Any:
    """Config of an experiment's first trial, as Tune keeps it.

    Not from the trial's ``params.pkl``, which Tune copies into its folder only now and then.
    """
    from ray import tune

    loggers = logging.getLogger("ray.tune.analysis")
    level = loggers.level
    loggers.setLevel(logging.ERROR)  # results, which a killed run may lack, are not needed
    try:
        trials = tune.ExperimentAnalysis(str(folder)).trials or []
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot resume {folder}: its state cannot be read ({root_cause(error)}); run it anew."
        ) from error
    finally:
        loggers.setLevel(level)
    for trial in trials:
        config = default_config(trial.trainable_name)
        config.update_from_dict(trial.config)
        return config
    raise CommandError(f"cannot resume: no trial of {folder} has started; run it anew.")


def _notes(request: TrainRequest, options: TrainOptions) -> None:
    """What is allowed, but may not be meant."""
    if is_flow_map(request.config):
        given = [f"--{n}" for n in ("eta", "beta") if getattr(options, n) is not None]
        if given and request.algorithm in _NO_RADIUS:
            typer.echo(
                f"note: {' and '.join(given)} set FMQ's trust region; {request.algorithm} has none"
            )
        from rllib_fmq.learner.compiling import COMPILING, will_compile

        device = "cuda" if request.config.num_gpus_per_learner else "cpu"
        if will_compile(request.config, device):
            typer.echo(f"note: {COMPILING}")
    elif not request.stop:
        typer.echo("note: without --stop this runs until you press Ctrl-C")
