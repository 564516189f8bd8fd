"""A remote learner that cannot take a checkpoint must not be left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_fmq.algorithms.config import FlowMapConfig

from .conftest import write_walk


@pytest.mark.slow
def test_a_refused_checkpoint_stops_the_run(
    ray_session: None, make_config: Callable[..., FlowMapConfig], tmp_path: Path
) -> None:
    first = make_config().build_algo()
    checkpoint = first.save_to_path(str(tmp_path / "checkpoint"))
    first.stop()
    other = write_walk(tmp_path / "other.npz", seed=1)
    second = make_config(dataset=other, num_learners=1).build_algo()
    try:
        with pytest.raises(ValueError, match="another dataset"):
            second.restore_from_path(checkpoint)
    finally:
        second.stop()
