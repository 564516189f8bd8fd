"""A small generated dataset, for tests that must run where the shared ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def maze_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pointmaze-medium-navigate-v0.npz of 600 transitions in episodes of 250, with its -val."""
    pytest.importorskip("ogbench")
    from rllib_fmq.data.generation.generate import generate_dataset

    return generate_dataset(
        "pointmaze-medium-navigate-v0",
        tmp_path_factory.mktemp("maze"),
        steps=600,
        seed=1,
        num_workers=0,
        episode_steps=250,
        progress=False,
    )


@pytest.fixture(scope="session")
def cube_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cube-single-play-v0.npz of 100 transitions in episodes of 60, with its -val."""
    pytest.importorskip("ogbench")
    from rllib_fmq.data.generation.generate import generate_dataset

    return generate_dataset(
        "cube-single-play-v0",
        tmp_path_factory.mktemp("cube"),
        steps=100,
        seed=1,
        num_workers=0,
        episode_steps=60,
        progress=False,
    )
