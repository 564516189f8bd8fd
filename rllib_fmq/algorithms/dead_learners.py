"""Telling the death of a learner from the errors that it causes in the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

_PATIENCE = 10.0
"""Seconds; a dead process's answer, which is an error, comes at once."""


@contextmanager
def deaths_named(learner_group: Any) -> Iterator[None]:
    """Around a call to all learners, of which RLlib raises the first one's error.

    Args:
        learner_group: RLlib's.
    Raises:
        RayActorError: If a learner is dead, whatever error another one had for it (such as a
            connection that was closed); other errors as they are.
    """
    try:
        yield
    except (FloatingPointError, OSError, RayActorError):
        raise
    except RayError as error:
        if learner_group.is_remote and (death := _death(learner_group._workers)):
            raise death from error
        raise


def _death(actors: list[Any]) -> RayActorError | None:
    answers = [actor.__ray_ready__.remote() for actor in actors]
    ready, _ = ray.wait(answers, num_returns=len(answers), timeout=_PATIENCE)
    for answer in ready:
        try:
            ray.get(answer)
        except RayActorError as death:
            return death
    return None
