"""Policies out of checkpoints, without building an algorithm: no dataset, no learner."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.evaluation import EpisodeOutcome, evaluate_episodes
from rllib_fmq.tasks.registry import make_env

_GROUP = Path("learner_group")
_MODULE = _GROUP / "learner" / "rl_module" / "default_policy"
_CONSTRUCTOR = "class_and_ctor_args.pkl"
_TUNE_CHECKPOINT = re.compile(r"checkpoint_(\d+)")


def find_checkpoint(path: str | Path) -> Path:
    """Resolve a checkpoint, a Tune trial folder or an experiment folder to one checkpoint.

    Args:
        path: A checkpoint; or a trial folder, whose latest checkpoint is taken; or an
            experiment folder, of whose trials the one that was saved last is taken.
    Returns:
        Absolute path of a checkpoint folder.
    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.exists():
        raise FileNotFoundError(f"checkpoint not found: {path} does not exist.")
    if _is_checkpoint(folder):
        return folder
    if folder.is_dir():
        for depth in ("*", "*/*"):
            found = [
                candidate
                for candidate in folder.glob(depth)
                if _TUNE_CHECKPOINT.fullmatch(candidate.name) and _is_checkpoint(candidate)
            ]
            if found:
                return max(found, key=lambda p: ((p / _GROUP).stat().st_mtime, p.name))
    raise FileNotFoundError(
        f"no checkpoint in {path}: expected a folder that holds algorithm_state.pkl and "
        "learner_group/, or a trial or experiment folder with checkpoint_* in it. Runs write one "
        "at their end, and with --checkpoint-freq N every N iterations."
    )


def load_policy(path: str | Path) -> tuple[FlowMapModule, Any]:
    """Rebuild the policy that a checkpoint holds.

    Checkpoints are pickles, as everywhere in RLlib: load only those you trust.

    Args:
        path: See ``find_checkpoint``.
    Returns:
        The module, on the CPU, and the ``FlowMapConfig`` that it was trained with.
    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged or of another algorithm.
    """
    checkpoint = find_checkpoint(path)
    info = _unpickle(checkpoint, _MODULE / _CONSTRUCTOR)
    config = _arguments(checkpoint, _GROUP / _CONSTRUCTOR)["config"]
    kind = info["class"]
    if not (isinstance(kind, type) and issubclass(kind, FlowMapModule)):
        algorithm = getattr(config.algo_class, "__name__", "another algorithm")
        raise ValueError(
            f"checkpoint {checkpoint} is of {algorithm}: expected one of FMQ, QGBS, MVP or QC."
        )
    arguments = _arguments(checkpoint, _MODULE / _CONSTRUCTOR)
    state = _unpickle(checkpoint, _MODULE / "module_state.pkl")
    try:
        module = kind(**arguments)
        module.set_state(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise _damaged(checkpoint, _MODULE, error) from error
    module.eval()
    return module, config


def make_checkpoint_env(config: Any, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment that a policy was trained in.

    Args:
        config: From ``load_policy``.
        **kwargs: Go to the environment on top of the config's ``env_config``.
    Returns:
        A new environment, not vectorised.
    Raises:
        ValueError: If the environment is not known in this process.
    """
    settings = {**config.env_config, **kwargs}
    if not isinstance(config.env, str):
        env: gym.Env[Any, Any] = config.env(EnvContext(settings, worker_index=0))
        return env
    if _global_registry.contains(ENV_CREATOR, config.env):
        env = _global_registry.get(ENV_CREATOR, config.env)(EnvContext(settings, worker_index=0))
        return env
    return make_env(config.env, **settings)


def check_selector(config: Any, selector: SelectorSettings) -> None:
    """Refuse a selector that the policy cannot use.

    Args:
        config: From ``load_policy``.
        selector: The selector asked for.
    Raises:
        ValueError: If the policy was trained on the diagonal only and the selector jumps.
    """
    if config.lambda_sd == 0.0 and selector.kind != "euler":
        raise ValueError(
            f"selector {selector.kind!r} jumps along the flow map, but this "
            f"{config.algo_class.__name__} policy was trained on the diagonal only "
            "(lambda_sd=0): use the selector 'euler'."
        )


def evaluate_checkpoint(
    path: str | Path,
    selector: SelectorSettings | None,
    seeds: Sequence[int],
    num_workers: int = 0,
    on_episode: Callable[[EpisodeOutcome], None] | None = None,
) -> list[EpisodeOutcome]:
    """Run one episode for each seed with the policy of a checkpoint.

    Args:
        path: See ``find_checkpoint``.
        selector: How actions are chosen; None: as in the run's own evaluations.
        seeds: One an episode.
        num_workers: Ray actors that share the seeds; 0 runs them in this process. Outcomes do
            not depend on it. Ray is started, and stopped, here if it is not running.
        on_episode: Called in this process with each outcome as it comes.
    Returns:
        Outcomes in the order of ``seeds``.
    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged or the selector does not fit it.
    """
    checkpoint = find_checkpoint(path)
    module, config = load_policy(checkpoint)
    check_selector(config, selector or module.evaluation_selector)
    if num_workers > 0:
        return _evaluate_in_parallel(
            checkpoint, selector, seeds, min(num_workers, len(seeds)), on_episode
        )
    env: Any = make_checkpoint_env(config)
    try:
        return evaluate_episodes(module, env, seeds, selector, on_episode=on_episode)
    finally:
        env.close()


class _Evaluator:
    """One worker: a policy and an environment that serve many episodes."""

    def __init__(self, checkpoint: str) -> None:
        self._module, config = load_policy(checkpoint)
        self._env = make_checkpoint_env(config)

    def run(self, seed: int, selector: SelectorSettings | None) -> EpisodeOutcome:
        return evaluate_episodes(self._module, self._env, [seed], selector)[0]


def _evaluate_in_parallel(
    checkpoint: Path,
    selector: SelectorSettings | None,
    seeds: Sequence[int],
    num_workers: int,
    on_episode: Callable[[EpisodeOutcome], None] | None,
) -> list[EpisodeOutcome]:
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    workers: list[Any] = []
    try:
        worker_class = ray.remote(num_cpus=1)(_Evaluator)
        workers = [worker_class.remote(str(checkpoint)) for _ in range(num_workers)]
        waiting = list(enumerate(seeds))[::-1]
        outcomes: list[EpisodeOutcome | None] = [None] * len(seeds)
        running: dict[Any, tuple[int, Any]] = {}

        def hand_out(worker: Any) -> None:
            if waiting:
                index, seed = waiting.pop()
                running[worker.run.remote(seed, selector)] = (index, worker)

        for worker in workers:
            hand_out(worker)
        while running:
            # Episodes differ much in length: whoever is done takes the next seed.
            ready, _ = ray.wait(list(running), num_returns=1)
            index, worker = running.pop(ready[0])
            outcome: EpisodeOutcome = ray.get(ready[0])
            outcomes[index] = outcome
            if on_episode:
                on_episode(outcome)
            hand_out(worker)
        return [outcome for outcome in outcomes if outcome is not None]
    finally:
        for worker in workers:
            ray.kill(worker)
        if started:
            ray.shutdown()


def _is_checkpoint(folder: Path) -> bool:
    return (folder / _GROUP).is_dir()


def _arguments(checkpoint: Path, part: Path) -> dict[str, Any]:
    """Keyword arguments with which RLlib would construct a component."""
    info = _unpickle(checkpoint, part)
    try:
        arguments: dict[str, Any] = dict(info["ctor_args_and_kwargs"][1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _damaged(checkpoint, part, error) from error
    return arguments


def _unpickle(checkpoint: Path, part: Path) -> Any:
    try:
        with open(checkpoint / part, "rb") as file:
            return pickle.load(file)
    except Exception as error:  # whatever a damaged pickle raises
        raise _damaged(checkpoint, part, error) from error


def _damaged(checkpoint: Path, part: Path, error: Exception) -> ValueError:
    return ValueError(
        f"cannot load checkpoint {checkpoint}: {part} is missing, damaged or of another version "
        f"({type(error).__name__}: {error})."
    )
