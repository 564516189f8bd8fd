"""``rllib export``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript")

from rllib_fmq.checkpointing.manifest import write_manifest
from rllib_fmq.checkpointing.policy_file import POLICY_FILE, to_json
from rllib_fmq.checkpointing.trust import MODULE
from rllib_fmq.serving import Policy
from tests.command import Command
from tests.serving.conftest import HIGH, LOW, make_policy


@pytest.fixture()
def checkpoint(tmp_path: Path) -> Path:
    """What the export reads of a checkpoint, of an environment that cannot be made here.

    Of QC, whose one selector is traced fastest.
    """
    module, record = make_policy("euler", env="unknown-v0")
    folder = tmp_path / "checkpoint"
    module.save_to_path(folder / MODULE)
    (folder / POLICY_FILE).write_text(json.dumps(to_json(record)))
    write_manifest(folder, {})
    return folder


@pytest.mark.timeout(1_800)
def test_export(checkpoint: Path, tmp_path: Path, rllib: Command) -> None:
    folder = tmp_path / "new" / "policy"
    outcome = rllib("export", checkpoint, "-o", folder)
    assert outcome.code == 0, outcome.err
    assert f"policy: {folder} (QC; euler)" in outcome.out and "checked: " in outcome.out
    assert "flat vectors only" in outcome.out and "unknown-v0" in outcome.out
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]
    policy = Policy(folder, seed=0)
    action = policy.act(np.zeros(3))
    assert (action >= LOW).all() and (action <= HIGH).all()
    with pytest.raises(ValueError, match="is a mapping: expected a vector of 3 numbers"):
        policy.act({"goal": [0.0, 0.0], "arm": [0.0]})
    again = rllib("export", checkpoint, "-o", folder)
    assert again.code == 1
    assert again.err == f"rllib: {folder} exists: name a new folder, or remove it.\n"


def test_no_checkpoint(tmp_path: Path, rllib: Command) -> None:
    outcome = rllib("export", tmp_path, "-o", tmp_path / "policy")
    assert outcome.code == 1 and outcome.err.startswith("rllib: no checkpoint in ")
    assert not (tmp_path / "policy").exists()
