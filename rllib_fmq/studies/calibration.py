"""Short real runs that tell what the parts of a study's trials cost here."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.errors import root_cause
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.rollout.checkpoints import load_policy
from rllib_fmq.rollout.evaluation import evaluate_episodes, make_single_env
from rllib_fmq.seeds import FINAL_EVALUATION_SEED
from rllib_fmq.studies.costs import Calibration, cost_key, is_compiled, selector_key
from rllib_fmq.studies.definition import Study
from rllib_fmq.studies.identity import make_config
from rllib_fmq.studies.trials import OFFLINE, Trial

STEPS = 40
"""Environment steps of a timed iteration, at least; in the offline phase, updates."""
MANY_STEPS = 400
"""From so many steps a round of the runners on, its fragments are cut for the calibration."""
ITERATIONS = 3
"""Of each part; the first warms up, the others are timed."""


def calibrate(
    study: Study, trials: Sequence[Trial], folder: Path, max_concurrent: int = 0
) -> dict[str, Calibration]:
    """Run one short trial for each cost key, side by side as Tune will run the study's.

    Args:
        study: The study.
        trials: Those that are to be estimated.
        folder: For temporary files; with several machines, a shared one. It must exist.
        max_concurrent: Trials at a time; 0: as many as the resources allow.
    Returns:
        Cost key -> seconds.
    Raises:
        ValueError: If one of the short trials failed or was interrupted.
    """
    from ray import tune

    from rllib_fmq.studies.run import trial_resources
    from rllib_fmq.tune_memory import bounded_tune_memory

    chosen: dict[str, Trial] = {}
    for trial in trials:
        chosen.setdefault(cost_key(trial), trial)
    by_id = {trial.id: trial for trial in chosen.values()}

    def run(config: dict[str, Any]) -> None:
        tune.report(asdict(measure(by_id[config["trial"]])))

    with tempfile.TemporaryDirectory(prefix="plan-", dir=folder) as storage:
        tuner = tune.Tuner(
            tune.with_resources(run, lambda c: trial_resources(study, by_id[c["trial"]])),
            param_space={"trial": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=max_concurrent or None, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        )
        with bounded_tune_memory():
            results = tuner.fit()
    measured: dict[str, Calibration] = {}
    for result in results:
        name = "" if result.config is None else str(result.config["trial"])
        if result.error is not None:
            raise ValueError(f"the calibration of trial {name} failed: {root_cause(result.error)}")
        fields, metrics = Calibration.__dataclass_fields__, result.metrics or {}
        if not fields.keys() <= metrics.keys():
            raise ValueError("the calibration was interrupted: give the command again.")
        measured[name] = Calibration(**{key: metrics[key] for key in fields})
    return {key: measured[trial.id] for key, trial in chosen.items()}


def measure(trial: Trial) -> Calibration:
    """Time the parts of a trial in this process: a few dozens of updates and environment steps.

    Self-distillation is on from the first update, as it is for most of a trial. One episode is
    evaluated for each selector, with the policy as it is then: an episode that ends in success is
    shorter.

    Args:
        trial: What to time.
    Returns:
        Seconds.
    """
    config = short_config(trial)
    algorithm, setup = _timed(config.build_algo)
    folder = Path(tempfile.mkdtemp(prefix="rllib-fmq-plan-"))
    try:
        update = collect = train = 0.0
        if trial.parent:
            algorithm.train()
        elif config.offline_updates:
            first, update = _seconds_a_unit(algorithm.train, "num_updates")
            setup += first
        if config.online_env_steps:
            _, collect = _seconds_a_unit(algorithm.train, "num_online_env_steps")
            first, train = _seconds_a_unit(algorithm.train, "num_online_env_steps")
            setup += first
        _, checkpoint = _timed(lambda: algorithm.save_to_path(str(folder / "checkpoint")))
        load, episode = _time_episodes(trial, config, folder / "checkpoint")
    finally:
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    return Calibration(setup, update, collect, train, checkpoint, load, episode)


def short_config(trial: Trial) -> FlowMapConfig:
    """The config of a trial's short run: ``ITERATIONS`` of each part.

    Args:
        trial: What to time.
    Returns:
        A new config, checked.
    """
    full = trial.config()
    envs = full.num_envs_per_env_runner * max(1, full.num_env_runners)
    fragment = min(full.get_rollout_fragment_length(), max(10, MANY_STEPS // envs))
    steps = fragment * envs * math.ceil(STEPS / (fragment * envs))
    updates = max(1, round(steps * full.utd_ratio))
    steps = max(1, round(updates / full.utd_ratio))  # as the algorithm counts an iteration's
    # What starts from an offline phase needs some policy, which some updates give.
    offline = updates if trial.parent else ITERATIONS * updates
    return make_config(
        trial.algorithm,
        {
            **trial.values,
            "rollout_fragment_length": fragment,
            "updates_per_iteration": updates,
            "offline_updates": offline if full.offline_updates else 0,
            "learning_starts": ITERATIONS * steps,
            "online_env_steps": 0 if trial.phase == OFFLINE else 2 * ITERATIONS * steps,
            "diagonal_warmup_updates": 0,
            "interval_anneal_end": 0,
            "conditioning_start": 0,
            "evaluation_interval": None,
            "compile_updates": is_compiled(trial),
        },
    )


def _seconds_a_unit(iterate: Callable[[], Any], counter: str) -> tuple[float, float]:
    """What the first iteration takes beyond the others, and the mean of a unit of these.

    Units are those of the iterations' results: runners may collect more steps than asked for.
    """
    before, first = _timed(iterate)
    others = [_timed(iterate) for _ in range(ITERATIONS - 1)]
    units = others[-1][0][counter] - before[counter]
    seconds = [second for _, second in others]
    return max(0.0, first - statistics.mean(seconds)), sum(seconds) / units


def _time_episodes(
    trial: Trial, config: FlowMapConfig, checkpoint: Path
) -> tuple[float, Mapping[str, float]]:
    """Seconds of loading the policy, and of an episode with each selector."""
    (module, _), reading = _timed(lambda: load_policy(checkpoint, config=config))
    env, making = _timed(lambda: make_single_env(config))
    try:
        episode = {}
        for chosen in trial.selectors:
            selector = SelectorSettings(**chosen)
            run = partial(evaluate_episodes, module, env, [FINAL_EVALUATION_SEED], selector)
            _, episode[selector_key(chosen)] = _timed(run)
    finally:
        env.close()
    return reading + making, episode


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start
