"""What of a checkpoint may run code, and is therefore read only if the user trusts its origin."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_fmq.checkpointing.plain_pickle import ForeignPickleError, load_plain_file
from rllib_fmq.checkpointing.policy_file import PolicyRecord, read_policy_file, record_policy
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.tasks.registry import ROBOMIMIC_FILE

GROUP = Path("learner_group")
MODULE = GROUP / "learner" / "rl_module" / "default_policy"
CONSTRUCTOR = "class_and_ctor_args.pkl"
"""RLlib's pickled classes and config; only ``from_checkpoint`` needs them."""
GIVE = "give --trust (trust=True in Python) if you trust its origin."
ASK = f"loading that can run code: {GIVE}"
OUR_STATE = "flow_map"
"""Key of the phase counters in ``algorithm_state.pkl``."""

# Gymnasium's ids for environments of older versions, which their arguments name.
_BY_ARGUMENT = ("GymV21Environment", "GymV26Environment")


class TrustNeededError(ValueError):
    """Going on could run code from the checkpoint; the user is to say that this is meant."""


def check_plain_states(folder: Path) -> None:
    """Whether all state files that RLlib's restore could read hold plain state.

    Args:
        folder: Local checkpoint of any algorithm.
    Raises:
        TrustNeededError: If one does not; it is not read by RLlib's code then.
        ValueError: If one is damaged.
    """
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        odd = links + [name for name in files if Path(name).suffix in (".msgpack", ".msgpck")]
        if odd:
            what = "a link" if odd[0] in links else "msgpack, which RLlib's reader may unpickle"
            raise TrustNeededError(f"checkpoint file {Path(place, odd[0])} is {what}; {ASK}")
        for name in files:
            if name.endswith(".pkl") and name != CONSTRUCTOR:
                try:
                    load_plain_file(Path(place, name))
                except ForeignPickleError as error:
                    raise TrustNeededError(
                        f"checkpoint file {str(error).rstrip('.')}; {GIVE}"
                    ) from error


def read_record(checkpoint: Path, trust: bool) -> PolicyRecord:
    """What a checkpoint's policy is and was trained in.

    Args:
        checkpoint: Local folder.
        trust: Unpickle RLlib's config where ``policy.json`` is missing or says too little.
    Raises:
        TrustNeededError: If that is needed and not allowed.
        ValueError: If the checkpoint is damaged or of another algorithm.
    """
    record = read_policy_file(checkpoint)
    if record is not None and not (trust and record.env_missing):
        return record
    if trust:
        return _pickled_record(checkpoint)
    check_ours(checkpoint)
    raise TrustNeededError(
        f"checkpoint {checkpoint} does not describe its policy in policy.json (it is of an older "
        f"version, or the policy is of a class of its own) and needs RLlib's pickled config; {ASK}"
    )


def check_ours(checkpoint: Path) -> None:
    """Whether one of our algorithms wrote a checkpoint.

    Args:
        checkpoint: Local folder.
    Raises:
        ValueError: If not, or if that cannot be told.
    """
    state = _part(checkpoint, Path("algorithm_state.pkl"), trust=False)
    if not isinstance(state, Mapping) or OUR_STATE not in state:
        raise ValueError(
            f"checkpoint {checkpoint} is of another algorithm: expected one of FMQ, QGBS, MVP or "
            "QC."
        )


def check_env_name(record: PolicyRecord) -> None:
    """Refuse an environment that a checkpoint gives as code.

    A name that this process has registered is fine whatever it looks like; ``success_fn`` is not.

    Args:
        record: Of the checkpoint.
    Raises:
        TrustNeededError: If making the environment would import and call what the file names.
    """
    if record.env_missing:
        raise TrustNeededError(
            "the checkpoint does not say in policy.json how its environment is made "
            f"({record.env_missing}) and needs RLlib's pickled config; {ASK}"
        )
    name = str(record.env)
    named = (":" in name and not name.startswith(ROBOMIMIC_FILE)) or name.startswith(_BY_ARGUMENT)
    # A known name excuses the name only: whoever registered it may still call what is given.
    named = named and not _global_registry.contains(ENV_CREATOR, record.env)
    success_fn = record.env_config.get("success_fn")
    if named or success_fn is not None:
        what = f"success_fn {success_fn!r}" if success_fn is not None else f"environment {name!r}"
        raise TrustNeededError(
            f"the checkpoint names the {what}, code that would be imported and called; {ASK}"
        )


def _pickled_record(checkpoint: Path) -> PolicyRecord:
    module = _part(checkpoint, MODULE / CONSTRUCTOR, trust=True)
    group = _part(checkpoint, GROUP / CONSTRUCTOR, trust=True)
    try:
        config = group["ctor_args_and_kwargs"][1]["config"]
        kind, arguments = module["class"], module["ctor_args_and_kwargs"][1]
    except (KeyError, IndexError, TypeError) as error:
        raise _damaged(checkpoint, GROUP / CONSTRUCTOR, error) from error
    if not (isinstance(kind, type) and issubclass(kind, FlowMapModule)):
        algorithm = getattr(config.algo_class, "__name__", "another algorithm")
        raise ValueError(
            f"checkpoint {checkpoint} is of {algorithm}: expected one of FMQ, QGBS, MVP or QC."
        )
    return record_policy(config, kind, arguments)


def _part(checkpoint: Path, part: Path, trust: bool) -> Any:
    try:
        if trust:
            with open(checkpoint / part, "rb") as file:
                return pickle.load(file)
        return load_plain_file(checkpoint / part)
    except Exception as error:  # whatever a damaged pickle raises
        raise _damaged(checkpoint, part, error) from error


def _damaged(checkpoint: Path, part: Path, error: Exception) -> ValueError:
    return ValueError(
        f"cannot load checkpoint {checkpoint}: {part} is missing, damaged or of another version "
        f"({type(error).__name__}: {error})."
    )
