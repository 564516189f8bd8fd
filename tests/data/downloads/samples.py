"""The files that the test servers serve."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from tests.data.downloads.servers import Request

DATASET = "cube-double-play-v0"
FILE, VALIDATION = f"{DATASET}.npz", f"{DATASET}-val.npz"
TRAIN_PATH, VALIDATION_PATH = f"/{FILE}", f"/{VALIDATION}"
CAN_FILE = "robomimic/can/mh/low_dim_v15.hdf5"


def npz_bytes(rows: int, seed: int) -> bytes:
    """An archive in OGBench's format that does not compress."""
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        observations=random.random((rows, 37)),
        actions=random.random((rows, 5)),
        terminals=np.zeros(rows, np.bool_),
        qpos=random.random((rows, 30)),
    )
    return file.getvalue()


DATA = npz_bytes(1500, 0)
CHANGED = npz_bytes(1500, 1)
SHA256 = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def ranges(requests: list[Request]) -> list[str | None]:
    return [request.range for request in requests]
