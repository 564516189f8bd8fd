"""What makes a trial's work the same: its settings on record, and what of them acts offline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.algorithms.paths import MINARI
from rllib_fmq.algorithms.settings import FlowMapSettings
from rllib_fmq.flow.selection import SelectorSettings

# Keys that change nothing before the switch. Every other key is compared, also those of RLlib,
# so that a key which is forgotten here costs a second offline phase and never a wrong one.
_ONLINE_KEYS = frozenset(
    [
        "eta",
        "beta",
        "disagreement_eps",
        "radius_numerator",
        "guidance_critic",
        "online_diagonal_weight",
        "online_distillation_weight",
        "online_env_steps",
        "utd_ratio",
        "learning_starts",
        "reset_optimizer_online",
        "replay_capacity",
        "collection_selector",
        "collection_num_candidates",
        "evaluation_selector",
        "scoring",
        "num_env_runners",
        "num_envs_per_env_runner",
        "rollout_fragment_length",
        "max_policy_lag",
    ]
)
# These act through the selector of the critic target, which is compared as a whole.
_TARGET_KEYS = frozenset(
    [
        "target_selector",
        "target_num_candidates",
        "num_candidates",
        "euler_steps",
        "beam_width",
        "search_iters",
        "branches",
        "qgbs_eta",
        "snr",
        "qgbs_completion",
    ]
)
_USED = {
    "sample": (),
    "best_of_n": ("num_candidates",),
    "euler": ("num_candidates", "euler_steps"),
    "qgbs": ("beam_width", "search_iters", "branches", "eta", "snr", "completion", "grad_eps"),
}
# Attributes that an AlgorithmConfig derives from others or that only say how it is shown.
_DERIVED = frozenset(
    ("class", "algo_class", "model", "callbacks_class", "custom_evaluation_function", "_is_frozen")
)
# Where things lie differs between machines; the table's column `parent` names the checkpoint.
_PLACES = frozenset(("dataset_dir", "initial_checkpoint"))
# What only watches a run: trials with another value are the same trials.
_CHECKS = frozenset(("parameter_check_interval",))
# Of RLlib's own keys, those that are worth a line also where they have RLlib's default.
_ALWAYS = ("lr", "gamma", "_train_batch_size_per_learner", "seed", "env", "num_learners")


def make_config(algorithm: str, values: Mapping[str, Any]) -> FlowMapConfig:
    """The config of a method with some keys set.

    Args:
        algorithm: "FMQ", "QGBS", "MVP" or "QC".
        values: Config keys.
    Returns:
        A new config, checked.
    Raises:
        ValueError: If the algorithm is none of ours, or a key or a value is wrong.
    """
    from rllib_fmq.registration import ALGORITHMS

    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm {algorithm!r}: studies compare {', '.join(ALGORITHMS)}; a Method whose "
            "name is none of these needs algorithm=..."
        )
    config: FlowMapConfig = ALGORITHMS[algorithm].get_default_config()
    config.update_from_dict(dict(values))
    config.validate()
    return config


def full_config(config: FlowMapConfig) -> dict[str, Any]:
    """All settings of a run as JSON values, for the record.

    Args:
        config: Of the run.
    Returns:
        Every key of ours that acts, and RLlib's where they differ from its defaults; of places
        only the dataset's name.
    """
    defaults, rllib = vars(FlowMapSettings()), set(vars(AlgorithmConfig()))
    described = {}
    for key, value in vars(config).items():
        plain = _plain(value)
        changed = key not in defaults or plain != _plain(defaults[key])
        if key not in _DERIVED | _PLACES | _CHECKS and (
            key not in rllib or changed or key in _ALWAYS
        ):
            described[key.lstrip("_")] = plain  # RLlib hides some settings behind properties
    described["algorithm"] = config.algo_class.__name__ if config.algo_class else ""
    described["dataset"] = _dataset_name(config.dataset)
    # Read from the dataset, where that is at hand.
    described["env_config"] = {
        k: v for k, v in (described.get("env_config") or {}).items() if k != "env_args"
    }
    if not described["env_config"]:
        del described["env_config"]
    return described


def offline_key(config: FlowMapConfig) -> str:
    """What of a config acts before the switch: trials of equal keys share an offline phase.

    Args:
        config: Checked.
    Returns:
        JSON text.
    """
    left_out = _ONLINE_KEYS | _TARGET_KEYS | {"algorithm"}
    offline = {k: v for k, v in full_config(config).items() if k not in left_out}
    target, standard = config.selector("target"), dataclasses.asdict(SelectorSettings())
    # Numbers that its kind does not use say nothing of the target.
    used = (*_USED[target.kind], "kind")
    offline["target"] = standard | {
        k: v for k, v in dataclasses.asdict(target).items() if k in used
    }
    return json.dumps(offline, sort_keys=True)


def _dataset_name(dataset: str | None) -> str | None:
    if dataset is None or dataset.startswith(MINARI):
        return dataset
    return Path(dataset).name


def _plain(value: Any) -> Any:
    """JSON for a config's value: objects by their name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(v) for v in value]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{getattr(value, '__module__', type(value).__module__)}.{name}"
