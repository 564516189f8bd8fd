"""Everything that can be found wrong with a run before Ray starts and a folder is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from rllib_fmq.checkpointing.policy_file import read_policy_file
from rllib_fmq.checkpointing.trust import check_ours
from rllib_fmq.cli.configuration import TrainRequest, is_flow_map
from rllib_fmq.cli.errors import CommandError, root_cause
from rllib_fmq.learner.initial_checkpoint import read_initial_state

NETWORK_KEYS = (
    "horizon_length",
    "actor_hidden",
    "critic_hidden",
    "num_critics",
    "time_embedding_dim",
    "conditioning_axis",
)


def check_request(request: TrainRequest) -> Any:
    """Validate every grid point's config, its environment and its dataset.

    Args:
        request: What is to be run.
    Returns:
        A validated config: the first grid point's.
    Raises:
        ValueError, FileNotFoundError, ModuleNotFoundError: What is wrong, in one line.
    """
    checked: set[tuple[str, ...]] = set()
    first = None
    for variant in variants(request.config):
        variant.validate()
        first = first if first is not None else variant
        if not is_flow_map(variant):
            _check_rllib_environment(variant)
            continue
        data = tuple(
            map(str, (variant.env, variant.dataset, variant.dataset_dir, variant.dataset_filter))
        )
        if data not in checked:
            checked.add(data)
            _check_data(variant)
        if variant.initial_checkpoint:
            read_initial_state(variant.initial_checkpoint).check_fits(variant.online_objective)
            check_networks(variant, variant.initial_checkpoint)
    return first


def check_networks(config: Any, checkpoint: str | Path) -> None:
    """Whether a checkpoint of ours can be read, and has the networks that a run will have.

    Args:
        config: Of the run, a ``FlowMapConfig``.
        checkpoint: Folder.
    Raises:
        ValueError, FileNotFoundError: If not.
    """
    folder = Path(checkpoint)
    check_ours(folder)
    record = read_policy_file(folder)
    if record is None:
        return  # of an older version; the learner compares the parameters themselves
    wanted = config.model_config
    for key in NETWORK_KEYS:
        found = record.model_config.get(key)
        if found != wanted[key]:
            raise ValueError(
                f"checkpoint {checkpoint} has {key}={found!r}, this run {wanted[key]!r}: give both "
                "the same."
            )


def check_places(storage_path: str, name: str, resume: bool) -> Path | None:
    """Whether results can be written.

    Args:
        storage_path: Folder or cloud address.
        name: Of the experiment.
        resume: Whether the experiment must exist already.
    Returns:
        The experiment's folder; None for a cloud address.
    Raises:
        CommandError: If the folder cannot be used.
    """
    if "://" in storage_path:
        if not resume:
            _check_file_system(storage_path)
        return None
    folder = Path(storage_path).expanduser().absolute() / name
    if resume:
        if not (folder / "tuner.pkl").is_file():
            known = sorted(p.parent.name for p in folder.parent.glob("*/tuner.pkl"))
            here = f" There are: {', '.join(known[-5:])}." if known else ""
            raise CommandError(
                f"cannot resume: no experiment {name!r} in {folder.parent}.{here} Name one with "
                "--experiment-name, and its folder with --storage-path."
            )
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise CommandError(
            f"experiment {name!r} exists in {folder.parent}: go on with it with --resume, or "
            "choose another --experiment-name."
        )
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise CommandError(
            f"--storage-path {storage_path}: {existing} is not a folder to write to."
        )
    return folder


def _check_file_system(address: str) -> None:
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    try:
        FileSystem.from_uri(address)
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"--storage-path {address} cannot be used: {reason}.") from error


def is_search_space(value: Any) -> bool:
    """Whether a config's value is a grid or a distribution of Tune's."""
    from ray.tune.search.sample import Domain

    return isinstance(value, Domain) or (isinstance(value, dict) and set(value) == {"grid_search"})


def search_keys(config: Any) -> list[str]:
    """Keys of a config that Tune searches."""
    return [key for key, value in vars(config).items() if is_search_space(value)]


def variants(config: Any) -> Iterator[Any]:
    """Configs without search spaces: every grid value once, the others at their first.

    Args:
        config: May hold grids and distributions.
    Yields:
        Copies that can be validated.
    """
    options = {key: _values(key, getattr(config, key)) for key in search_keys(config)}
    defaults = {key: values[0] for key, values in options.items()}
    changes = [{}, *({key: value} for key, values in options.items() for value in values[1:])]
    for change in changes:
        variant = config.copy(copy_frozen=False)
        for key, value in (defaults | change).items():
            setattr(variant, key, value)
        yield variant


def _values(key: str, space: Any) -> list[Any]:
    if not isinstance(space, dict):
        return [space.sample()]
    values = space["grid_search"]
    if not isinstance(values, list | tuple) or not values:
        raise CommandError(f"{key}: grid_search={values!r}: expected a list of values to try.")
    return list(values)


def _check_rllib_environment(config: Any) -> None:
    from rllib_fmq.algorithms.validation import check_environment

    if config.env is not None:
        check_environment(config)


def _check_data(config: Any) -> None:
    """Try the environment and load the dataset once: what is wrong shows before Ray starts."""
    import gymnasium as gym

    from rllib_fmq.nn.flow_map_module import check_spaces
    from rllib_fmq.rollout.checked_env import CheckedEnv
    from rllib_fmq.rollout.episode_replay import may_resume
    from rllib_fmq.rollout.evaluation import make_single_env
    from rllib_fmq.rollout.faults import EnvFault

    env: Any = None
    try:
        env = CheckedEnv(lambda: make_single_env(config), config.env_step_timeout_s)
        observations, actions = env.observation_space, env.action_space
        if hasattr(observations, "spaces"):  # only these are flattened on the way to the policy
            observations = gym.spaces.flatten_space(observations)
        check_spaces(observations, actions)
        if config.resume_episodes and may_resume(env):  # else it may be a robot that would move
            env.reset(seed=0)
            env.step(((actions.low + actions.high) / 2).astype(actions.dtype))
    except EnvFault as fault:
        raise CommandError(f"environment {str(config.env)!r} cannot be used: {fault}") from fault
    except (gym.error.Error, ImportError) as error:
        raise CommandError(
            f"environment {str(config.env)!r} cannot be made: {root_cause(error)}"
        ) from error
    finally:
        if env is not None:
            env.close()
    if config.dataset is None:
        return
    from rllib_fmq.data.loading import check_fits, load_dataset

    table = load_dataset(
        config.dataset,
        str(config.env),
        data_dir=config.dataset_dir,
        filter_key=config.dataset_filter,
    )
    typer.echo(f"data: {table.source}, {table.num_steps:,} transitions")
    flat_actions: Any = gym.spaces.flatten_space(actions)
    check_fits(table, observations, flat_actions)
    if table.mapped:
        table.validate()  # loading looks at names and sizes only
    if _is_recording(config.dataset) and looks_normalised(table, flat_actions):
        typer.echo(
            "note: all actions lie in [-1, 1], the environment's bounds are wider: RLlib records "
            "actions before it maps them to the bounds, unless normalize_actions and clip_actions "
            "are False (docs/DATA.md)"
        )


def _is_recording(dataset: str) -> bool:
    from rllib_fmq.data.formats.detect import detect, resolve

    return dataset != "auto" and detect(resolve(dataset)) == "rllib"


def looks_normalised(table: Any, actions: Any) -> bool:
    """Whether actions fill [-1, 1] at most, although the environment's bounds are wider.

    Args:
        table: ``TransitionTable``.
        actions: 1-D Box.
    """
    wider = bool((actions.high > 1.0).any() or (actions.low < -1.0).any())
    return wider and float(abs(table.actions).max()) <= 1.0
