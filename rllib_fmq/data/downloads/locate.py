"""Find the file of a task's dataset: in local folders, else from its mirrors."""

from __future__ import annotations

import difflib
import os
import shlex
from pathlib import Path

from rllib_fmq.data.downloads.integrity import SCRIPTED_FOLDER
from rllib_fmq.data.downloads.mirrors import addresses
from rllib_fmq.data.generation.families import can_generate, parse_generated
from rllib_fmq.tasks.catalog import Task, all_tasks, find_task, ogbench_task, parse_robomimic
from rllib_fmq.tasks.names import parse_dataset
from rllib_fmq.tasks.registry import dataset_name

DATA_DIR_VARIABLE = "RLLIB_FMQ_DATA_DIR"
OGBENCH_DIR = "~/.ogbench/data"
ROBOMIMIC_DIR = "~/.robomimic"

_SCRIPTED_TASKS = ("lift", "can", "square")
"""RoboMimic's tasks with scripted demonstrators."""


def data_dirs(data_dir: str | Path | None = None) -> list[Path]:
    """Folders that may hold datasets, in the order in which they are asked.

    Args:
        data_dir: Folder to put first.
    Returns:
        `data_dir`, $RLLIB_FMQ_DATA_DIR and ~/.ogbench/data, those that are set.
    """
    named = (data_dir, os.environ.get(DATA_DIR_VARIABLE), OGBENCH_DIR)
    return [Path(folder).expanduser() for folder in named if folder]


def official_places(task: Task, folders: list[Path]) -> list[Path]:
    """Where the official file of a task's dataset may be, in the order in which to look.

    Args:
        task: Its record.
        folders: As `data_dirs` returns them.
    """
    places = [folder / task.dataset_file for folder in folders]
    if task.benchmark == "robomimic":
        path = Path(task.dataset_file).relative_to("robomimic")
        places.append(Path(ROBOMIMIC_DIR).expanduser() / path)
    return places


def stand_in_places(task: Task, folders: list[Path]) -> list[Path]:
    """Where scripted demonstrations may be that stand in for RoboMimic's.

    OGBench's generated files have the official names, and need no places of their own.

    Args:
        task: Its record.
        folders: As `data_dirs` returns them.
    """
    if task.benchmark != "robomimic":
        return []
    official = Path(task.dataset_file)
    path = official.parent.parent / SCRIPTED_FOLDER / official.name
    return [folder / path for folder in folders]


def find_local(task: Task, data_dir: str | Path | None = None) -> Path | None:
    """The file of a task's dataset that is on this disk; None if there is none.

    An official file anywhere comes before scripted demonstrations.

    Args:
        task: Its record.
        data_dir: Folder to look in first.
    """
    folders = data_dirs(data_dir)
    places = official_places(task, folders) + stand_in_places(task, folders)
    return next((path for path in places if path.is_file()), None)


def dataset_task(name: str) -> Task:
    """Record of a task on a dataset.

    Args:
        name: Any name of a task, or an OGBench dataset such as "cube-double-play-v0".
    Raises:
        ValueError: If it is neither, with the closest names.
    """
    task = find_task(name)
    if task is not None:
        return task
    parsed = parse_dataset(name)
    if parsed is not None:
        return ogbench_task(parsed)
    known = {name for task in all_tasks() for name in (task.short_name, task.name, task.dataset)}
    close = difflib.get_close_matches(name, [name for name in known if name], n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"no official dataset is known for {name!r}{hint} (`rllib data list --all` names them)"
    )


def locate(env_name: str, *, data_dir: str | Path | None = None, download: bool = True) -> Path:
    """Path of a task's dataset; downloaded to the first folder if no folder has it.

    What is on this disk wins: an official file in one of `data_dirs` (for RoboMimic also in
    ~/.robomimic/<task>/<source>), one that was generated under the same name, or else scripted
    demonstrations in robomimic/<task>/scripted. The path tells which it is.

    Args:
        env_name: Any name of a task in the catalogue.
        data_dir: Folder to look in first.
        download: Whether to try the mirrors.
    Returns:
        An existing file.
    Raises:
        ValueError: If no dataset is known for the environment.
        FileNotFoundError: If there is no file, with the commands that would make one.
    """
    task = find_task(env_name)
    if task is None:
        dataset_name(env_name)  # raises, and names similar tasks
        raise ValueError(f"no dataset is known for environment {env_name!r}")
    found = find_local(task, data_dir)
    if found is not None:
        return found
    folders = data_dirs(data_dir)
    trouble = "downloading is switched off"
    if download:
        # Imported here: most runs need no HTTP, and the module imports this one.
        from rllib_fmq.data.downloads.download import UndeliveredError, fetch_file

        try:
            return fetch_file(task, task.dataset_file, folders[0])
        except (UndeliveredError, OSError) as error:
            trouble = str(error)
    searched = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(
        f"no dataset for {env_name!r}: {task.dataset_file} is in none of {searched}, and "
        f"{trouble}. {ways_to_get(task, folders[0])}; or name a file of your own: "
        f"`rllib train --env {env_name} --dataset FILE`."
    )


def ways_to_get(task: Task, folder: Path) -> str:
    """What to do where a dataset is not on this disk and cannot be downloaded, in words.

    Args:
        task: A task on the dataset.
        folder: Data folder to put it in.
    """
    by_hand = addresses(task, task.dataset_file)[0]
    commands = [f"`curl -fL --create-dirs -o {folder / task.dataset_file} {by_hand}`"]
    stand_in = stand_in_command(task)
    if stand_in is not None:
        if folder != data_dirs()[0]:  # where generated data go unless told otherwise
            stand_in += f" -o {shlex.quote(str(folder))}"
        commands.insert(0, f"`{stand_in}`")
        if "--policy" in stand_in:
            commands[0] += " (examples/train_directional_policy.py trains a policy)"
    return f"Get one with {' or with '.join(commands)}"


def stand_in_command(task: Task) -> str | None:
    """The command that generates data for a task; None if there is none.

    Args:
        task: Its record.
    """
    if task.benchmark == "robomimic":
        robomimic = parse_robomimic(task.name)
        name = robomimic[0] if robomimic else ""
        return f"rllib data generate {name} --seed 0" if name in _SCRIPTED_TASKS else None
    if parse_generated(task.dataset) is None:
        return None
    policy = "" if can_generate(task.dataset) else " --policy FILE.npz"
    return f"rllib data generate {task.dataset}{policy} --steps 1000000 --seed 0"
