"""Which data a trial was trained on, and that all of a study were trained on the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rllib_fmq.algorithms.paths import AUTO, MINARI
from rllib_fmq.data.downloads.integrity import is_generated
from rllib_fmq.data.downloads.locate import locate
from rllib_fmq.studies.store import CONFIG_FILES, TRIALS
from rllib_fmq.studies.trials import Trial

FINGERPRINT, GENERATED = "dataset_fingerprint", "dataset_generated"


def data_record(algorithm: Any, folder: Path, trial: Trial) -> dict[str, Any]:
    """The dataset's fingerprint, and whether a script made it.

    Args:
        algorithm: Built.
        folder: Of the study.
        trial: That the algorithm runs.
    Returns:
        ``dataset_fingerprint`` and ``dataset_generated``; the latter is None where unknown.
    Raises:
        ValueError: If another trial of the study was trained on other data of that name.
    """
    results = algorithm.learner_group.foreach_learner(lambda learner: learner.dataset_fingerprint)
    fingerprint = str(next(iter(results)).get())
    name = Path(str(algorithm.config.dataset)).name
    for file in folder.glob(f"{TRIALS}/*/{CONFIG_FILES}"):
        other = json.loads(file.read_text(encoding="utf-8"))
        same = other.get("dataset") == name and other.get("env") == trial.task
        if same and other.get(FINGERPRINT, fingerprint) != fingerprint:
            raise ValueError(
                f"trial {file.parent.name} was trained on another dataset {name!r} (fingerprint "
                f"{other[FINGERPRINT][:12]}, here {fingerprint[:12]}): name that one, or another "
                "folder with -o."
            )
    return {FINGERPRINT: fingerprint, GENERATED: _is_generated(algorithm.config)}


def _is_generated(config: Any) -> bool | None:
    dataset = config.dataset
    if dataset is None or str(dataset).startswith(MINARI):
        return None
    if dataset == AUTO:
        path = locate(config.env, data_dir=config.dataset_dir, download=False)
    else:
        path = Path(dataset)
    return is_generated(path) if path.is_file() else None
