"""Config keys and values that no run can be meant to have, given as ``--config``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rllib_fmq.algorithms.validation import CHOICES, NUMBER_AT_LEAST, POSITIVE, WHOLE_AT_LEAST
from tests.bad_input.harness import Case, fmq

_NAN, _INF = float("nan"), float("inf")
_RLLIB: dict[str, tuple[Any, ...]] = {
    "lr": ("high", -0.1, _NAN, None),
    "grad_clip": ("much", -1.0, _NAN),
    "grad_clip_by": ("size",),
    "train_batch_size_per_learner": ("all", 0, 2.5),
    "rollout_fragment_length": ("long", 0, 1.5, -5),
    "num_env_runners": ("many", -1, 1.5, None),
    "num_envs_per_env_runner": ("many", 0, 1.5),
    "num_cpus_per_env_runner": ("all", -1, _NAN),
    "num_learners": ("many", -1, 1.5),
    "num_gpus_per_learner": ("all", -1, _INF, _NAN),
    "num_cpus_per_learner": ("many", -1),
    "evaluation_interval": ("often", -1, 1.5),
    "evaluation_duration": ("long", 0, -3, 2.5, None),
    "evaluation_num_env_runners": ("many", -1),
    "sample_timeout_s": ("long", 0, -1.0, _NAN, True),
    "max_num_env_runner_restarts": ("many", -1, 1.5, None),
    "num_consecutive_env_runner_failures_tolerance": ("many", -1, 1.5, None),
    "delay_between_env_runner_restarts_s": ("long", -1.0, _NAN, None),
    "env_runner_cls": ("mine", 3),
    "env_step_timeout_s": ("long", 0, -1.0, _NAN),
    "resume_episodes": ("no", None, 1),
    "seed": ("seven", -1, 1.5),
    "framework": ("tf2", "jax"),
    "framework_str": ("tf2",),
    "env_config": ("fast", [1], 3),
    "env": ("cube-singel-play-singletask-task2-v0", 3, ""),
    "normalize_actions": (False,),
    "explore": (False,),
    "batch_mode": ("complete_episodes",),
    "evaluation_duration_unit": ("timesteps",),
    "enable_rl_module_and_learner": (False,),
    "num_epochs": (3,),
    "minibatch_size": (32,),
    "policies": (["a", "b"],),
    "callbacks": ("mine",),
    "optimizer": ("adam",),
}
_SELECTORS: tuple[Any, ...] = (
    "best",
    3,
    None,
    {},
    ["qgbs"],
    {"kind": "best"},
    {"kind": "qgbs", "beams": 3},
    {"kind": "qgbs", "beam_width": 0},
    {"kind": "qgbs", "beam_width": "wide"},
    {"kind": "qgbs", "snr": _NAN},
    {"kind": "qgbs", "eta": None},
    {"kind": "qgbs", "grad_eps": -1.0},
    {"kind": "qgbs", "completion": "jumps"},
    {"kind": "best_of_n", "num_candidates": 2.5},
    {"kind": "euler", "euler_steps": True},
    {"kind": ["qgbs"]},
)


def cases() -> list[Case]:
    """All of them."""
    listed = [*_keys(), *_own_values(), *_rllib_values(), *_together()]
    assert len({case.name for case in listed}) == len(listed)
    return listed


def _without_data(config: dict[str, Any]) -> tuple[str, ...]:
    """A run whose dataset is for the config to name: the flag would go before it."""
    given = fmq("--config", json.dumps(config))
    place = given.index("--dataset")
    return given[:place] + given[place + 2 :]


def _case(key: str, value: Any, says: str | None = None) -> Case:
    text = json.dumps({key: value})
    return Case(f"{key}={value!r}", fmq("--config", text), key if says is None else says)


def _keys() -> Iterator[Case]:
    for key in ("etaa", "Eta", "", "__class__", "_is_frozen", "eta ", "learning_rate", "gamme"):
        yield Case(f"key {key!r}", fmq("--config", json.dumps({key: 1})), repr(key))
    for method in ("QGBS", "MVP", "QC", "PPO", "SAC"):
        arguments = ("train", "--algo", method, "--env", "Pendulum-v1", "--storage-path", "results")
        yield Case(f"key of {method}", (*arguments, "--config", '{"etaa": 1}'), "'etaa'")


def _own_values() -> Iterator[Case]:
    for key in CHOICES:
        for value in ("best", []):
            yield _case(key, value)
    for place, (key, least) in enumerate(WHOLE_AT_LEAST.items()):
        kinds = ("many", least + 0.5, True, None, [least], _NAN)
        for value in (least - 1, kinds[place % 6]):
            if key not in _RLLIB:
                yield _case(key, value)
    for place, key in enumerate(NUMBER_AT_LEAST):
        for value in (-0.5, _NAN, ("much", None, _INF, [1.0])[place % 4]):
            yield _case(key, value)
    for place, key in enumerate(POSITIVE):
        for value in (0.0, ("much", None, _INF, True)[place % 4]):
            yield _case(key, value)
    for key in ("gamma", "tau", "conditioning_zero_prob"):
        yield _case(key, 1.5)
    for key in ("target_num_candidates", "collection_num_candidates", "learner_threads"):
        for value in (0, "all"):
            yield _case(key, value)
    for value in ([], 512, "512", [0], [1.5], [True], None, [[64]], ["64"], {"a": 1}):
        yield _case("actor_hidden", value)
    for value in (512, [64, -1]):
        yield _case("critic_hidden", value)
    for key in ("collection_selector", "target_selector"):
        for value in (None, {"kind": "qgbs", "beam_width": 0}):
            yield _case(key, value)
    for value in _SELECTORS:
        yield _case("evaluation_selector", value)
    for value in (7, 2):
        yield _case("time_embedding_dim", value)
    for key in ("dataset", "dataset_dir", "initial_checkpoint"):
        for value in (3, ["a"], True, {"file": "a"}):
            yield Case(f"{key}={value!r}", _without_data({key: value}), key)
    for value in (3, ["train"]):
        yield _case("dataset_filter", value, repr(value))
    for value in (5, 1_999_999_999):
        yield _case("evaluation_seed", value)


def _rllib_values() -> Iterator[Case]:
    for key, values in _RLLIB.items():
        for value in values:
            says = {"framework": "framework", "callbacks": "mine"}.get(key, key)
            yield _case(key, value, says)


def _together() -> Iterator[Case]:
    """Values that are right alone."""
    for name, config, says in (
        ("anneal", {"interval_anneal_end": 10}, "interval_anneal_end=10"),
        ("critics", {"num_critics": 1}, "num_critics=1"),
        ("jumps", {"lambda_sd": 0.0}, "lambda_sd=0"),
        ("axis", {"conditioning_axis": True}, "conditioning_axis"),
        ("graphs", {"cuda_graphs": True}, "num_gpus_per_learner"),
        ("grid of none", {"eta": {"grid_search": []}}, "eta"),
        ("grid of no list", {"eta": {"grid_search": 3}}, "eta"),
        ("bad grid point", {"eta": {"grid_search": [0.1, "x"]}}, "'x'"),
        ("half a grid", {"eta": {"grid_serch": [0.1]}}, "grid_serch"),
        ("grid too deep", {"env_config": {"x": {"grid_search": []}}}, "'x'"),
        ("unknown env argument", {"env_config": {"speed": 3}}, "speed"),
        ("success_fn", {"env_config": {"success_fn": 3}}, "success_fn"),
        ("limit", {"env_config": {"max_episode_steps": "x"}}, "max_episode_steps='x'"),
        ("no limit", {"env_config": {"max_episode_steps": 0}}, "max_episode_steps=0"),
    ):
        yield Case(name, fmq("--config", json.dumps(config)), says)
    yield Case("no data", _without_data({"dataset": None}), "dataset=None")
