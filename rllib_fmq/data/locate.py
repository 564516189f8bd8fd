"""Find the file of a dataset: in local folders, else on OGBench's host."""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from rllib_fmq.data.families import can_generate
from rllib_fmq.data.npz import members_of
from rllib_fmq.tasks.registry import dataset_name

DATA_DIR_VARIABLE = "RLLIB_FMQ_DATA_DIR"
OGBENCH_DIR = "~/.ogbench/data"
DATASET_URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
_TIMEOUT_SECONDS = 20.0


def data_dirs(data_dir: str | Path | None = None) -> list[Path]:
    """Folders that may hold datasets, in the order in which they are asked.

    Args:
        data_dir: Folder to put first.
    Returns:
        `data_dir`, $RLLIB_FMQ_DATA_DIR and ~/.ogbench/data, those that are set.
    """
    named = (data_dir, os.environ.get(DATA_DIR_VARIABLE), OGBENCH_DIR)
    return [Path(folder).expanduser() for folder in named if folder]


def locate(env_name: str, *, data_dir: str | Path | None = None, download: bool = True) -> Path:
    """Path of a task's dataset; downloaded to the first folder if no folder has it.

    Args:
        env_name: OGBench single-task name.
        data_dir: Folder to look in first.
        download: Whether to try OGBench's host.
    Returns:
        An existing file.
    Raises:
        ValueError: If the environment is not an OGBench task.
        FileNotFoundError: If there is no file, with the commands that would make one.
    """
    name = dataset_name(env_name)
    folders = data_dirs(data_dir)
    for folder in folders:
        if (folder / f"{name}.npz").is_file():
            return folder / f"{name}.npz"
    target = folders[0] / f"{name}.npz"
    url = f"{DATASET_URL}/{name}.npz"
    trouble = "downloading is switched off"
    if download:
        try:
            fetch(url, target)
        except (OSError, ValueError, http.client.HTTPException) as error:
            trouble = f"downloading {url} failed ({type(error).__name__}: {error})"
        else:
            return target
    searched = ", ".join(str(folder) for folder in folders)
    commands = [
        *([f"rllib data generate {name} --steps 1000000 --seed 0"] if can_generate(name) else []),
        f"curl -fL --create-dirs -o {target} {url}",
    ]
    raise FileNotFoundError(
        f"no dataset for {env_name!r}: {name}.npz is in none of {searched}, and {trouble}. "
        "Get one with " + " or with ".join(f"`{command}`" for command in commands) + "; "
        f"or name a file of your own: `rllib train --env {env_name} --dataset FILE`."
    )


def fetch(url: str, target: Path) -> None:
    """Download an npz file; it appears under its name only when it is complete.

    Args:
        url: Address.
        target: File to write.
    Raises:
        OSError: If the host does not answer, or the file cannot be written.
        ValueError: If what came is not a complete npz archive.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    staged = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
        ):
            shutil.copyfileobj(response, file, length=1 << 20)
            expected = response.headers.get("Content-Length")
        size = staged.stat().st_size
        if expected is not None and size != int(expected):
            raise ValueError(f"the connection broke after {size} of {expected} bytes")
        members_of(staged)
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)
