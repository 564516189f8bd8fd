"""Where the official datasets can be downloaded from.

A mirror is an address under which files lie in a fixed layout. Mirrors of one's own replace the
built-in ones; below each of them a file is looked for as the benchmark's repository arranges it,
and as a data folder of ours does, so that `python -m http.server` in a data folder is a mirror.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from rllib_fmq.tasks.catalog import Task

MIRRORS_VARIABLE = "RLLIB_FMQ_MIRRORS"
HUGGING_FACE_VARIABLE = "HF_ENDPOINT"
HUGGING_FACE = "https://huggingface.co"
OGBENCH_HOST = "https://rail.eecs.berkeley.edu/datasets/ogbench"
# Reported to answer without TLS when it does not with it; last, for it vouches for nothing.
OGBENCH_HOST_PLAIN = "http://rail.eecs.berkeley.edu/datasets/ogbench"
# Files lie at the top: NAME.npz and NAME-val.npz. Source: public scripts that download from it.
OGBENCH_REPOSITORY = "zhouzypaul/ogbench_datasets"
# The second is the first's former name.
ROBOMIMIC_REPOSITORIES = ("robomimic/robomimic_datasets", "amandlek/robomimic")
ROBOMIMIC_FOLDER = "v1.5"


def data_files(task: Task) -> tuple[str, ...]:
    """Files of a task's dataset, relative to a data folder, the training data first.

    Args:
        task: Its record.
    Returns:
        One file for RoboMimic; for OGBench the training and the validation part.
    """
    name = task.dataset_file
    return (name, f"{name.removesuffix('.npz')}-val.npz") if name.endswith(".npz") else (name,)


def addresses(task: Task, file: str, mirrors: Sequence[str] | None = None) -> list[str]:
    """Addresses of a file, in the order in which to try them.

    Args:
        task: Record of the task whose dataset the file belongs to.
        file: One of `data_files(task)`.
        mirrors: Base addresses to use in place of $RLLIB_FMQ_MIRRORS and of the built-in ones.
    Returns:
        At least one URL.
    Raises:
        ValueError: If a mirror is no http or https address.
    """
    given = own_mirrors(mirrors)
    if task.benchmark == "ogbench":
        bases = given or [OGBENCH_HOST, _repository(OGBENCH_REPOSITORY), OGBENCH_HOST_PLAIN]
        return [f"{base}/{file}" for base in bases]
    path = file.removeprefix("robomimic/")
    if not given:
        return [f"{_repository(name)}/{ROBOMIMIC_FOLDER}/{path}" for name in ROBOMIMIC_REPOSITORIES]
    layouts = (f"{ROBOMIMIC_FOLDER}/{path}", path, file)
    return [f"{base}/{layout}" for base in given for layout in layouts]


def own_mirrors(mirrors: Sequence[str] | None = None) -> list[str]:
    """Base addresses that the user chose, without a slash at the end.

    Args:
        mirrors: Addresses; None or empty takes those in $RLLIB_FMQ_MIRRORS, separated by blanks
            or commas.
    Returns:
        Empty if the built-in mirrors are to be used.
    Raises:
        ValueError: If one is no http or https address of a folder.
    """
    where = "mirror"
    if not mirrors:
        where = f"mirror in ${MIRRORS_VARIABLE}"
        mirrors = os.environ.get(MIRRORS_VARIABLE, "").replace(",", " ").split()
    return [_base(mirror, where) for mirror in mirrors]


def _base(address: str, where: str) -> str:
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(
            f"{where} must be an http or https address such as {OGBENCH_HOST}, got {address!r}; "
            "to use files that are on this machine name their folder with --data-dir or "
            "$RLLIB_FMQ_DATA_DIR"
        )
    if parts.path.endswith((".npz", ".hdf5")) or parts.query or parts.fragment:
        raise ValueError(
            f"{where} must be the address of the folder that holds the files, got {address!r}"
        )
    return address.rstrip("/")


def _repository(name: str) -> str:
    endpoint = os.environ.get(HUGGING_FACE_VARIABLE) or HUGGING_FACE
    base = _base(endpoint, f"${HUGGING_FACE_VARIABLE}")
    return f"{base}/datasets/{name}/resolve/main"
