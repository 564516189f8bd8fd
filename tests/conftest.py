"""Fixtures shared by all tests, and the environment that every test process runs in."""

from __future__ import annotations

import os

# Before torch, numpy or Ray are imported, and inherited by Ray's workers: one thread each, so that
# a test's speed and its last bits do not depend on the machine; Ray quiet and local.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["RAY_DEDUP_LOGS"] = "1"
# Ray's workers are otherwise so polite (nice 15) that a busy test beside them makes them time out.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
os.environ.pop("RAY_ADDRESS", None)

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command, run_here

REPO_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the small datasets, ``ogbench/*.npz`` and ``robomimic/*.hdf5``; skips without."""
    default = REPO_ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("RLLIB_FMQ_TEST_DATA", default))
    if not (folder / "ogbench").is_dir():
        pytest.skip(f"no datasets in {folder}: name their folder in RLLIB_FMQ_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def cube_single(shared_data: Path) -> Path:
    """Path of the small cube-single-play dataset (its ``-val`` file lies beside it)."""
    path = shared_data / "ogbench" / "cube-single-play-v0.npz"
    if not path.is_file():
        pytest.skip(f"no dataset {path}: its folder is set by RLLIB_FMQ_TEST_DATA")
    return path


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray with four logical CPUs, shared by all tests that ask for it."""
    import ray

    from rllib_fmq.cli.ray_session import start_patiently

    ray.shutdown()  # a Ray that an earlier test left behind has other resources
    start_patiently(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=300 * 1024**2,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def rllib_here(ray_session: None) -> Command:
    """``rllib("train", ...)`` in this process and the tests' own Ray."""
    return run_here


@pytest.fixture(scope="session")
def two_modes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset of ``tests.problems.TwoModes``, whose environment this registers."""
    from tests.problems import register_problems, write_two_modes

    register_problems()
    return write_two_modes(tmp_path_factory.mktemp("two_modes") / "two-modes.npz")
