"""What a run takes over from another run's checkpoint: networks, optimiser, update count."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)

from rllib_fmq.checkpointing.find import find_checkpoint
from rllib_fmq.checkpointing.plain_pickle import load_plain_file


class InitialState(NamedTuple):
    """State that an online-only run starts from."""

    module: dict[str, Any]
    """Parameters of actor, critics, target critics and reference actor, by name."""
    optimizer: dict[str, Any]
    """As ``Learner.get_state`` gives it."""
    num_updates: int
    """Gradient updates done, which place the run on the time curriculum."""
    jumps_trained: bool
    """Whether the policy can jump: False for QC, which trains the diagonal only."""
    online: bool
    """Whether the run was past its offline-online switch."""

    def check_fits(self, online_objective: str) -> None:
        """Refuse a policy that cannot jump where the run acts by jumping.

        Args:
            online_objective: Of the run that would start from this.
        Raises:
            ValueError: If so.
        """
        if not self.jumps_trained and online_objective != "imitation":
            raise ValueError(
                "initial_checkpoint was trained on the diagonal only (QC, or lambda_sd=0), so its "
                "one-step jumps mean nothing: start from a checkpoint of FMQ, QGBS or MVP."
            )


def read_initial_state(checkpoint: str | Path) -> InitialState:
    """Read a checkpoint of any of the four methods.

    Only plain state is read: nothing in the files can run.

    Args:
        checkpoint: Folder of an algorithm's checkpoint, or of a Tune trial or experiment, whose
            latest whole one is taken.
    Returns:
        Networks, optimiser and update count; the replay is left behind.
    Raises:
        FileNotFoundError: If the folder holds no such checkpoint.
        ValueError: If it is damaged, was not written by one of our methods, or holds anything
            but plain state.
    """
    from rllib_fmq.learner.flow_map_learner import LEARNER_STATE

    folder = Path(checkpoint).expanduser()
    with suppress(FileNotFoundError):  # told below, with what is expected
        folder = find_checkpoint(folder)
    learner = folder / COMPONENT_LEARNER_GROUP / COMPONENT_LEARNER
    files = (
        learner / COMPONENT_RL_MODULE / DEFAULT_MODULE_ID / "module_state.pkl",
        learner / "state.pkl",
    )
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"initial_checkpoint={str(checkpoint)!r} has no {file.name} where expected "
                f"({file}): give the folder of a checkpoint of FMQ, QGBS, MVP or QC."
            )
    try:
        module, state = (load_plain_file(file) for file in files)
        own = state[LEARNER_STATE]
        return InitialState(
            module=module,
            optimizer=state[COMPONENT_OPTIMIZER],
            num_updates=own["num_updates"],
            jumps_trained=own["jumps_trained"],
            online=own["online"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"initial_checkpoint={str(checkpoint)!r} is damaged or of another algorithm "
            f"({type(error).__name__}: {error}): expected one of FMQ, QGBS, MVP or QC."
        ) from error
