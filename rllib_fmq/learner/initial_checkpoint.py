"""What a run takes over from another run's checkpoint: networks, optimiser, update count."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)


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

    It is a pickle, as every RLlib checkpoint: read only those you trust.

    Args:
        checkpoint: Folder of an algorithm's checkpoint.
    Returns:
        Networks, optimiser and update count; the replay is left behind.
    Raises:
        FileNotFoundError: If the folder holds no such checkpoint.
        ValueError: If it is damaged or was not written by one of our methods.
    """
    from rllib_fmq.learner.flow_map_learner import LEARNER_STATE

    learner = Path(checkpoint).expanduser() / COMPONENT_LEARNER_GROUP / COMPONENT_LEARNER
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
        module, state = (pickle.loads(file.read_bytes()) for file in files)
        own = state[LEARNER_STATE]
        return InitialState(
            module=module,
            optimizer=state[COMPONENT_OPTIMIZER],
            num_updates=own["num_updates"],
            jumps_trained=own["jumps_trained"],
            online=own["online"],
        )
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise ValueError(
            f"initial_checkpoint={str(checkpoint)!r} is damaged or of another algorithm "
            f"({error!r}): expected one of FMQ, QGBS, MVP or QC."
        ) from error
