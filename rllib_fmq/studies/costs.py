"""What a trial of a study costs: its work, counted, times the seconds of its parts, measured."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_fmq.learner.compiling import will_compile
from rllib_fmq.studies.identity import full_config, offline_key
from rllib_fmq.studies.trials import OFFLINE, Trial

# Keys that change what is computed, and not how long it takes. Every other key is compared, so
# that one which is forgotten here costs a second calibration and never a wrong estimate.
_FREE_KEYS = frozenset(
    [
        "seed",
        "eta",
        "beta",
        "grad_eps",
        "disagreement_eps",
        "radius_numerator",
        "qgbs_eta",
        "snr",
        "lr",
        "gamma",
        "tau",
        "max_loss",
        "replay_capacity",
        "reset_optimizer_online",
        "diagonal_warmup_updates",
        "interval_anneal_end",
        "conditioning_start",
        "conditioning_zero_prob",
        "offline_updates",
        "online_env_steps",
        "updates_per_iteration",
        "learning_starts",
        "evaluation_seed",
        "evaluation_interval",
        "evaluation_duration",
        "compile_updates",
    ]
)


@dataclass(frozen=True)
class Work:
    """What a trial does."""

    updates: int
    """Offline gradient updates."""
    collected: int
    """Environment steps before learning starts."""
    trained: int
    """Environment steps with the updates that they bring."""
    episodes: int
    """Of evaluations during training, one after another: shared by evaluation runners."""
    final: Mapping[str, int]
    """Selector (JSON) -> episodes in the end."""
    checkpoints: int


@dataclass(frozen=True)
class Calibration:
    """Measured seconds; of parts that a trial does not have, 0."""

    setup: float
    """Until the first update: dataset, networks, runners, compiling."""
    update: float
    """Of an offline update."""
    collect: float
    """Of an environment step without updates."""
    train: float
    """Of an environment step with its updates."""
    checkpoint: float
    load: float
    """Reading the policy and making the environment, once a final evaluation."""
    episode: Mapping[str, float]
    """Selector (JSON) -> an evaluation episode."""


def selector_key(selector: Mapping[str, Any]) -> str:
    """A selector's settings as text, to be found by."""
    return json.dumps(dict(selector), sort_keys=True)


def cost_key(trial: Trial) -> str:
    """What of a trial decides its seconds: one calibration serves all trials of equal keys.

    Args:
        trial: From ``plan_trials``.
    Returns:
        JSON text.
    """
    config = trial.config()
    own = json.loads(offline_key(config)) if trial.phase == OFFLINE else full_config(config)
    return json.dumps(
        {
            "config": {k: v for k, v in own.items() if k not in _FREE_KEYS},
            "compiled": is_compiled(trial),
            "phases": [trial.phase, bool(trial.parent), bool(config.offline_updates)],
            "selectors": [selector_key(s) for s in trial.selectors],
        },
        sort_keys=True,
    )


def is_compiled(trial: Trial) -> bool:
    """Whether a trial's own updates, without those of its parent, are compiled.

    Args:
        trial: From ``plan_trials``.
    """
    config = trial.config()
    if trial.parent:
        config.offline_updates = 0
    return will_compile(config, "cuda" if config.num_gpus_per_learner > 0 else "cpu")


def work_of(trial: Trial, checkpoint_interval: int) -> Work:
    """Count what a trial does.

    Args:
        trial: From ``plan_trials``.
        checkpoint_interval: Iterations between two checkpoints.
    Returns:
        Everything from its start to its end.
    """
    config = trial.config()
    updates = 0 if trial.parent else config.offline_updates
    collected = min(config.learning_starts, config.online_env_steps)
    steps = max(1, round(config.updates_per_iteration / config.utd_ratio))
    ends = list(
        itertools.accumulate(
            iterations
            for iterations in (
                math.ceil(updates / config.updates_per_iteration),
                math.ceil(config.online_env_steps / steps),
            )
            if iterations
        )
    )
    interval = config.evaluation_interval
    evaluations = 0
    if interval:
        evaluations = ends[-1] // interval + sum(end % interval != 0 for end in ends)
    runners = max(1, config.evaluation_num_env_runners)
    return Work(
        updates=updates,
        collected=collected,
        trained=config.online_env_steps - collected,
        episodes=evaluations * math.ceil(config.evaluation_duration / runners),
        final={selector_key(selector): trial.final_episodes for selector in trial.selectors},
        checkpoints=ends[-1] // checkpoint_interval + (ends[-1] % checkpoint_interval != 0),
    )


def trial_seconds(work: Work, measured: Calibration) -> float:
    """How long a trial takes.

    Args:
        work: Its work; the first selector of ``final`` is that of evaluations during training.
        measured: Of a trial of the same cost key.
    Returns:
        Seconds.
    """
    first = next(iter(work.final))
    final = sum(measured.load + n * measured.episode[key] for key, n in work.final.items())
    return (
        measured.setup
        + work.updates * measured.update
        + work.collected * measured.collect
        + work.trained * measured.train
        + work.episodes * measured.episode[first]
        + work.checkpoints * measured.checkpoint
        + final
    )
