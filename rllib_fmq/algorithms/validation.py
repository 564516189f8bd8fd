"""Checks of a config, before anything is started."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from ray.tune.registry import ENV_CREATOR, _global_registry, register_env

from rllib_fmq.algorithms.paths import AUTO
from rllib_fmq.algorithms.rllib_keys import (
    check_rllib_keys,
    is_finite,
    is_whole,
    use_python_numbers,
)
from rllib_fmq.flow.distillation import SELF_DISTILLATION_LOSSES
from rllib_fmq.rollout.callbacks import SuccessCallback
from rllib_fmq.rollout.env_runner import FlowMapEnvRunner
from rllib_fmq.seeds import FINAL_EVALUATION_SEED, LARGEST_TRAINING_SEED
from rllib_fmq.tasks.catalog import REWARD_SHIFT, parse_robomimic
from rllib_fmq.tasks.registry import ROBOMIMIC_FILE, is_task, known_tasks, make_env

if TYPE_CHECKING:
    from rllib_fmq.algorithms.config import FlowMapConfig

CHOICES = {
    "distillation": tuple(SELF_DISTILLATION_LOSSES),
    "distillation_student": ("jump", "composition"),
    "radius_numerator": ("eta", "one"),
    "guidance_critic": ("first", "mean"),
    "target_aggregation": ("min", "mean"),
    "target_scoring": ("min", "mean"),
    "scoring": ("min", "mean"),
    "qgbs_completion": ("jump", "euler"),
    "gelu": ("tanh", "none"),
    "compile_updates": ("auto", True, False),
    "cuda_graphs": (True, False),
    "conditioning_axis": (True, False),
    "reset_optimizer_online": (True, False),
}
VECTORS_OF_SINGLE_ENVIRONMENTS = (gym.VectorizeMode.SYNC, gym.VectorizeMode.ASYNC)
WHOLE_AT_LEAST = {
    "diagonal_warmup_updates": 0,
    "interval_anneal_end": 0,
    "conditioning_start": 0,
    "horizon_length": 1,
    "num_candidates": 1,
    "euler_steps": 1,
    "beam_width": 1,
    "search_iters": 0,
    "branches": 1,
    "num_critics": 1,
    "time_embedding_dim": 4,
    "replay_capacity": 1,
    "offline_updates": 0,
    "online_env_steps": 0,
    "updates_per_iteration": 1,
    "learning_starts": 0,
    "max_policy_lag": 0,
    "evaluation_seed": 0,
    "max_env_faults": 0,
    "parameter_check_interval": 0,
    "train_batch_size_per_learner": 1,
}
"""Whole numbers and their smallest values."""
NUMBER_AT_LEAST = {
    "eta": 0.0,
    "beta": 0.0,
    "lambda_sd": 0.0,
    "online_diagonal_weight": 0.0,
    "online_distillation_weight": 0.0,
    "qgbs_eta": 0.0,
}
POSITIVE = ("grad_eps", "disagreement_eps", "utd_ratio", "snr", "gamma", "tau")
AT_MOST_ONE = ("gamma", "tau")


def check_values(config: FlowMapConfig) -> None:
    """Refuse unknown keys, and values that are out of range whatever the others are.

    Args:
        config: Before RLlib's own checks, which trip over such values. NumPy's numbers in it
            become Python's.
    Raises:
        ValueError: Names the key, its value, what was expected, and what to do.
    """
    _check_unknown_keys(config)
    use_python_numbers(config)
    _check_numbers(config)
    check_rllib_keys(config)
    _check_rllib_settings(config)
    _check_faults(config)


def validate_config(config: FlowMapConfig) -> None:
    """Refuse contradictory settings; make the environment known to RLlib.

    Args:
        config: After RLlib's own checks.
    Raises:
        ValueError: Names the key, its value, what was expected, and what to do.
    """
    _check_phases(config)
    _check_method(config)
    _check_cuda_graphs(config)
    check_environment(config)
    callbacks = config.callbacks_class
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    if not any(isinstance(c, type) and issubclass(c, SuccessCallback) for c in given):
        config.callbacks_class = [SuccessCallback, *given]


def suggest(name: str, known: Any) -> str:
    """The clause " Did you mean ...?", or nothing."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _check_unknown_keys(config: FlowMapConfig) -> None:
    # RLlib itself leaves the key "class" behind when it copies a config.
    known = {key for key in vars(type(config)()) if not key.startswith("_")} | {"class"}
    for key in vars(config):
        if not key.startswith("_") and key not in known:
            raise ValueError(
                f"{config.algo_class.__name__ if config.algo_class else 'config'} has no key "
                f"{key!r}.{suggest(key, known)}"
            )


def _check_numbers(config: FlowMapConfig) -> None:
    for key, allowed in CHOICES.items():
        value = getattr(config, key)
        if value not in allowed:
            raise ValueError(
                f"{key}={value!r}: choose one of {allowed}."
                f"{suggest(str(value), filter(lambda x: isinstance(x, str), allowed))}"
            )
    for key, smallest in WHOLE_AT_LEAST.items():
        value = getattr(config, key)
        if not is_whole(value, smallest):
            raise ValueError(f"{key}={value!r}: must be a whole number >= {smallest}.")
    for key in ("target_num_candidates", "collection_num_candidates", "learner_threads"):
        value = getattr(config, key)
        if value is not None and not is_whole(value, 1):
            raise ValueError(f"{key}={value!r}: must be a whole number >= 1, or None.")
    for key, least in NUMBER_AT_LEAST.items():
        if not is_finite(value := getattr(config, key)) or value < least:
            raise ValueError(f"{key}={value!r}: must be a number >= {least:g}.")
    for key in POSITIVE:
        value = getattr(config, key)
        if not is_finite(value) or value <= 0 or (key in AT_MOST_ONE and value > 1):
            bounds = "lie in (0, 1]" if key in AT_MOST_ONE else "be > 0"
            raise ValueError(f"{key}={value!r}: must be a number and {bounds}.")
    if config.max_loss is not None and not (is_finite(config.max_loss) and config.max_loss > 0):
        raise ValueError(f"max_loss={config.max_loss!r}: must be a number > 0, or None.")
    if config.time_embedding_dim % 2:
        raise ValueError(f"time_embedding_dim={config.time_embedding_dim}: must be even.")
    if not is_finite(config.conditioning_zero_prob) or not 0 <= config.conditioning_zero_prob <= 1:
        raise ValueError(
            f"conditioning_zero_prob={config.conditioning_zero_prob!r}: must lie in [0, 1]."
        )
    if config.interval_anneal_end < config.diagonal_warmup_updates:
        raise ValueError(
            f"interval_anneal_end={config.interval_anneal_end} lies before "
            f"diagonal_warmup_updates={config.diagonal_warmup_updates}: choose a later end."
        )
    for key in ("actor_hidden", "critic_hidden"):
        widths = getattr(config, key)
        listed = isinstance(widths, Sequence) and not isinstance(widths, str)
        if not listed or not widths or not all(is_whole(width, 1) for width in widths):
            raise ValueError(f"{key}={widths!r}: expected a list of widths such as (512, 512).")
    for use in ("collection", "target", "evaluation"):
        config.selector(use)


def _check_phases(config: FlowMapConfig) -> None:
    if not config.offline_updates and not config.online_env_steps:
        raise ValueError(
            "offline_updates=0 and online_env_steps=0: nothing to train. Set at least one in "
            ".phases(...)."
        )
    if config.offline_updates and config.dataset is None:
        raise ValueError(
            f"offline_updates={config.offline_updates} but dataset=None: name a dataset in "
            ".offline_data(dataset=...), or set offline_updates=0."
        )
    if config.initial_checkpoint and config.offline_updates:
        raise ValueError(
            f"initial_checkpoint={config.initial_checkpoint!r} together with "
            f"offline_updates={config.offline_updates}: the checkpoint stands for the offline "
            "phase, so set offline_updates=0."
        )
    if not config.offline_updates and not config.initial_checkpoint:
        raise ValueError(
            "an online-only run (offline_updates=0) starts from a trained policy: name it in "
            ".phases(initial_checkpoint=...), or set offline_updates > 0."
        )


def _check_method(config: FlowMapConfig) -> None:
    if config.online_objective == "q_guidance" and config.beta > 0 and config.num_critics < 2:
        raise ValueError(
            f"num_critics={config.num_critics} with beta={config.beta}: the adaptive radius "
            "compares critics, so use num_critics >= 2 or beta=0."
        )
    if (
        config.online_objective != "imitation"
        and config.lambda_sd == 0
        and config.offline_updates > 0
    ):
        raise ValueError(
            "lambda_sd=0 with offline_updates > 0: without self-distillation the jumps that this "
            "method acts with are never trained. Use lambda_sd > 0, or algo QC."
        )
    if config.conditioning_axis and config.online_objective != "generate_and_select":
        raise ValueError("conditioning_axis=True belongs to MVP: use algo MVP or leave it off.")


def _check_rllib_settings(config: FlowMapConfig) -> None:
    required: dict[str, Any] = {
        "framework_str": "torch",
        "enable_rl_module_and_learner": True,
        "enable_env_runner_and_connector_v2": True,
        "normalize_actions": True,
        "evaluation_duration_unit": "episodes",
        # RLlib's own sampling of minibatches, which our learner replaces.
        "num_epochs": 1,
        "minibatch_size": None,
        "shuffle_batch_per_epoch": False,
    }
    if not config.in_evaluation:  # RLlib itself asks evaluation for complete episodes
        required |= {"batch_mode": "truncate_episodes", "explore": True}
    for key, value in required.items():
        if getattr(config, key) != value:
            raise ValueError(f"{key}={getattr(config, key)!r}: this algorithm needs {value!r}.")
    if config.is_multi_agent:
        raise ValueError(
            f"policies={sorted(config.policies)}: these algorithms train one policy; leave away "
            "what .multi_agent(...) sets."
        )
    if config._env_to_module_connector or config._module_to_env_connector:
        raise ValueError(
            "env_to_module_connector and module_to_env_connector are not supported: datasets and "
            "evaluation know nothing of them. Put what they do into an environment wrapper."
        )
    if config.evaluation_duration == "auto":
        raise ValueError("evaluation_duration='auto': give a number of episodes, such as 50.")
    if config.seed is not None and not (
        is_whole(config.seed, 0) and config.seed < LARGEST_TRAINING_SEED
    ):
        raise ValueError(
            f"seed={config.seed!r}: must be a whole number in [0, {LARGEST_TRAINING_SEED}), so "
            "that training and evaluation never share an environment seed."
        )
    if config.evaluation_seed < 2 * LARGEST_TRAINING_SEED:
        raise ValueError(
            f"evaluation_seed={config.evaluation_seed}: must be >= {2 * LARGEST_TRAINING_SEED}; "
            "smaller seeds may occur in training."
        )
    if config.evaluation_seed + int(config.evaluation_duration) > FINAL_EVALUATION_SEED:
        raise ValueError(
            f"evaluation_seed={config.evaluation_seed}: its {config.evaluation_duration} episodes "
            f"reach the seeds of final evaluations, which begin at {FINAL_EVALUATION_SEED}."
        )


def _check_faults(config: FlowMapConfig) -> None:
    if not isinstance(config.resume_episodes, bool):
        raise ValueError(f"resume_episodes={config.resume_episodes!r}: must be True or False.")
    limit = config.env_step_timeout_s
    if limit is not None and (not is_finite(limit) or limit <= 0):
        raise ValueError(f"env_step_timeout_s={limit!r}: must be a number > 0 in seconds, or None.")
    mode, kind = config.gym_env_vectorize_mode, config.env_runner_cls
    own_runner = isinstance(kind, type) and issubclass(kind, FlowMapEnvRunner)
    if own_runner and mode not in ("sync", "async", *VECTORS_OF_SINGLE_ENVIRONMENTS):
        raise ValueError(
            f"gym_env_vectorize_mode={mode!r}: expected 'sync' or 'async', since seeds and faults "
            "are those of single environments. Other vectors need RLlib's own runner: "
            ".env_runners(env_runner_cls=SingleAgentEnvRunner)."
        )


def _check_cuda_graphs(config: FlowMapConfig) -> None:
    if not config.cuda_graphs:
        return
    if not config.num_gpus_per_learner:
        raise ValueError(
            "cuda_graphs=True needs a learner on a GPU: set .learners(num_gpus_per_learner=1), or "
            "leave it off."
        )
    if config.num_learners > 1:
        raise ValueError(
            f"cuda_graphs=True with num_learners={config.num_learners}: communication between "
            "learners is not recorded here. Use one learner, or leave it off."
        )
    # Each of these looks at numbers on the device, or logs, in every update.
    looking = {
        "torch_skip_nan_gradients=False": not config.torch_skip_nan_gradients,
        "grad_clip_by='norm'": bool(config.grad_clip) and config.grad_clip_by == "norm",
        "log_gradients=True": config.log_gradients,
    }
    for setting in (name for name, on in looking.items() if on):
        raise ValueError(
            f"cuda_graphs=True with {setting}: a recorded update cannot look at single gradients. "
            "Leave one of them off."
        )


def check_environment(config: FlowMapConfig) -> None:
    """Refuse an environment that nobody can make; register one that only we can.

    RoboMimic's environments are built from the dataset's own description, which is put into
    `env_config` here, so that runners and checkpoints have it without the file.

    Args:
        config: Any ``AlgorithmConfig``.
    Raises:
        ValueError: If the name is unknown, with close ones.
    """
    env = config.env
    if env is None:
        raise ValueError("no environment: set .environment(env=...), such as a task name.")
    if not isinstance(env, str):
        if not callable(env):
            raise ValueError(
                f"env={env!r} is a {type(env).__name__}: expected a name, a class or a function."
            )
        return
    registered = _global_registry.contains(ENV_CREATOR, env)
    ours = is_task(env) or env in gym.registry or ":" in env
    if "success_fn" in config.env_config and registered and not ours:
        raise ValueError(
            f"success_fn cannot be used for {env!r}, which was registered with register_env: "
            'report info["success"] there, or name the environment as module:factory.'
        )
    if is_task(env) or "success_fn" in config.env_config:
        if not registered:
            register_env(env, lambda context: make_env(env, **dict(context)))
        _describe_robomimic(config)
        return
    known = registered or env in gym.registry
    # "module:id" and "package.module.Class" are resolved by Gymnasium and RLlib.
    if not known and ":" not in env and "." not in env:
        raise ValueError(
            f"unknown environment {env!r}.{suggest(env, [*known_tasks(), *gym.registry])} "
            "Register it with ray.tune.register_env, or give a Gymnasium id or module:factory."
        )


def _describe_robomimic(config: FlowMapConfig) -> None:
    """Take the environment's description, and the dataset, from a RoboMimic file."""
    env = str(config.env)
    described = env.startswith(ROBOMIMIC_FILE)
    if not (described or parse_robomimic(env)):
        return
    dataset = getattr(config, "dataset", None)  # another algorithm's config has none
    shift = config.env_config.get("reward_shift", REWARD_SHIFT)
    if dataset is not None and shift != REWARD_SHIFT:
        raise ValueError(
            f"env_config reward_shift={shift!r}: RoboMimic's datasets are read with rewards "
            f"shifted by {REWARD_SHIFT:g}, so the environment's must be too; leave it away."
        )
    if "env_args" in config.env_config:
        return
    from rllib_fmq.data.downloads.locate import locate
    from rllib_fmq.data.formats.robomimic_hdf5 import is_robomimic
    from rllib_fmq.tasks.robomimic import read_env_args

    path: Path | None = Path(dataset) if dataset not in (None, AUTO) else None
    if described:
        path = Path(env.removeprefix(ROBOMIMIC_FILE)).expanduser()
        if not path.is_file():
            raise ValueError(f"environment {env!r}: there is no file {path}.")
        if dataset == AUTO:
            config.dataset = str(path.absolute())
    elif dataset == AUTO:
        with contextlib.suppress(FileNotFoundError):
            path = locate(env, data_dir=config.dataset_dir, download=False)
    if path is not None and is_robomimic(path):
        config.env_config = {**config.env_config, "env_args": read_env_args(path)}
