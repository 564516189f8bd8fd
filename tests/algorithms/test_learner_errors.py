"""What learners note as wrong reaches the caller, with its cause."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.rllib.core.learner.torch.torch_learner import TorchLearner

from rllib_fmq.algorithms.checkpointed import CheckpointedAlgorithm
from rllib_fmq.checkpointing.folders import clear_errors
from rllib_fmq.learner.flow_map_learner import FlowMapLearner, StateError


class WithLearners(CheckpointedAlgorithm):
    """Nothing but learners."""

    def __init__(self, *errors: StateError | None) -> None:
        self.learner_group = list(errors)
        self._learners = [SimpleNamespace(save_error=error) for error in errors]

    def ask_learners(self, ask: Callable[[Any], Any]) -> list[Any]:
        return [ask(learner) for learner in self._learners]

    def __del__(self) -> None:
        """Nothing to stop."""


def test_a_full_disk_of_a_remote_learner_is_told_as_one() -> None:
    full = StateError("[Errno 28] No space left on device", errno.ENOSPC)
    algorithm = WithLearners(None, full)
    with pytest.raises(OSError, match="1 of 2 learners could not save") as caught:
        algorithm.check_learners("save_error", "save")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="disk is full"), clear_errors("there"):
        algorithm.check_learners("save_error", "save")


def test_other_errors_of_a_learner_are_told_with_their_message() -> None:
    algorithm = WithLearners(StateError("wrong shapes", None), None, None)
    with pytest.raises(ValueError, match=r"1 of 3 learners could not save.*wrong shapes"):
        algorithm.check_learners("save_error", "save")
    WithLearners(None).check_learners("save_error", "save")


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (OSError(errno.EROFS, "Read-only file system"), errno.EROFS),
        (AssertionError(), None),  # without a message: it must not pass for no error
    ],
)
@pytest.mark.parametrize("what", ["save", "restore"])
def test_a_learner_notes_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch, what: str, error: Exception, noted: int | None
) -> None:
    method = {"save": "save_to_path", "restore": "restore_from_path"}[what]

    def fails(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(TorchLearner, method, fails)
    learner = FlowMapLearner.__new__(FlowMapLearner)
    with pytest.raises(type(error)):
        getattr(learner, method)("somewhere")
    state = getattr(learner, f"{what}_error")
    assert state.number == noted
    assert state.message
