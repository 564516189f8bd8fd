"""Exported folders: equal to the module in both formats, self-contained, refused when damaged."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from rllib_fmq.data.loading import unscale_actions
from rllib_fmq.flow.selection import SelectorKind, SelectorSettings
from rllib_fmq.serving import Policy
from rllib_fmq.serving.export import difference, export_policy, module_plan, near_ties
from rllib_fmq.serving.policy import SUFFIXES, Planner
from tests.serving.conftest import HIGH, HORIZON, LOW, OBS_SIZE, Exported, PartsEnv

# Tracing QGBS takes a minute where other processes have the cores.
pytestmark = pytest.mark.timeout(1_800)
SELECTORS = ("sample", "best_of_n", "qgbs")
BACKENDS = pytest.mark.parametrize("backend", list(SUFFIXES))


def observations(num: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((num, OBS_SIZE), dtype=np.float32)


# Loading traced programs takes most of these tests' time.
planner_of = functools.cache(Planner)


def onnx_policy(policy: Exported, selector: str = "sample", seed: int | None = None) -> Policy:
    """In the format that loads fastest."""
    return Policy(policy.folder, selector, "onnx", seed)


def check_equality(policy: Exported, kind: SelectorKind, backend: str, num: int) -> None:
    planner = planner_of(policy.folder, kind, backend)
    rng = np.random.default_rng(num)
    obs = observations(num)
    rows = [planner.info.draw_noise(rng) for _ in range(num)]
    noise = {name: np.stack([row[name] for row in rows]) for name in planner.info.noise}
    expected = module_plan(policy.module, policy.settings(kind), obs, noise).numpy()
    expected = expected.reshape(num, HORIZON, len(LOW))
    np.testing.assert_allclose(planner.plan_scaled(obs, noise), expected, atol=1e-5, rtol=0)
    in_units = unscale_actions(expected, LOW, HIGH)
    np.testing.assert_allclose(planner.plan(obs, noise), in_units, atol=5e-5, rtol=0)


@BACKENDS
@pytest.mark.parametrize("kind", SELECTORS)
@pytest.mark.parametrize("num", [1, 2, 3, 17, 64])
def test_equal_to_the_module(
    one_step_policy: Exported, kind: SelectorKind, backend: str, num: int
) -> None:
    check_equality(one_step_policy, kind, backend, num)


@BACKENDS
@pytest.mark.parametrize("num", [1, 5])
def test_euler_is_equal_to_the_module(euler_policy: Exported, backend: str, num: int) -> None:
    check_equality(euler_policy, "euler", backend, num)
    with pytest.raises(ValueError, match=r"selector 'qgbs' is not in .*\['euler'\]"):
        Policy(euler_policy.folder, "qgbs", backend)


def test_content(one_step_policy: Exported) -> None:
    names = {path.name for path in one_step_policy.folder.iterdir()}
    programs = {f"{k}{s}" for k in SELECTORS for s in (".pt2", ".onnx")}
    assert names == programs | {"policy.json", "policy.py"}
    content = json.loads((one_step_policy.folder / "policy.json").read_text())
    assert content["default_selector"] == "best_of_n" and content["action"]["high"] == HIGH
    assert {k: v["nfe"] for k, v in content["selectors"].items()} == {
        **{"sample": 1, "best_of_n": 4, "qgbs": 6}
    }
    assert content["selectors"]["qgbs"]["noise"] == {"noise": [2, 4], "renoise": [1, 4, 4]}
    assert content["observation"]["parts"] == [
        {"path": ["goal"], "shape": [2]},
        {"path": ["arm"], "shape": [1]},
    ]
    assert one_step_policy.report.largest_difference < 1e-5


def test_near_ties_are_rows_whose_choice_hangs_on_rounding() -> None:
    class Module:
        def plan(self, obs: torch.Tensor, *_: Any) -> Any:
            # Chooses between two actions by which of two values is larger.
            chosen = torch.where(obs[:, :1] > obs[:, 1:2], 0.5, -0.5)
            return SimpleNamespace(actions=chosen + 1e-3 * obs[:, 2:])

    obs = np.array([[1.0, 1.0, 3.0], [1.0, 1.001, 3.0], [2.0, 1.0, -9.0]], np.float32)
    noise = {"noise": np.zeros((3, 1), np.float32)}
    settings = SelectorSettings("best_of_n")
    own = module_plan(Module(), settings, obs, noise)  # type: ignore[arg-type]
    ties = near_ties(Module(), settings, obs, noise, own)  # type: ignore[arg-type]
    assert ties.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("rows", "ties", "refused"),
    [([3], [], True), ([3, 8], [3], True), ([3, 8], [3, 8], False), (range(5), range(16), True)],
)
def test_only_few_rows_may_differ_and_only_by_near_ties(
    one_step_policy: Exported,
    monkeypatch: pytest.MonkeyPatch,
    rows: Sequence[int],
    ties: Sequence[int],
    refused: bool,
) -> None:
    def other(*arguments: Any) -> torch.Tensor:
        plan = module_plan(*arguments)
        plan[list(rows)] += 0.01
        return plan

    def marked(*_: Any) -> torch.Tensor:
        return torch.tensor([row in ties for row in range(16)])

    monkeypatch.setattr("rllib_fmq.serving.export.module_plan", other)
    monkeypatch.setattr("rllib_fmq.serving.export.near_ties", marked)
    settings = one_step_policy.settings("sample")
    found = difference(one_step_policy.folder, one_step_policy.module, settings, "onnx")
    assert (found > 1e-5) == refused
    assert not refused or found == pytest.approx(0.01, rel=1e-2)


ACT_WITHOUT_RAY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "rllib_fmq"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import json
from policy import Policy

actions = {}
for selector in sys.argv[3:]:
    policy = Policy(sys.argv[1], selector, sys.argv[2], seed=5)
    actions[selector] = [policy.act([0.1, 0.2, 0.3]).tolist() for _ in range(4)]
print(json.dumps(actions))
"""


@BACKENDS
def test_folder_acts_where_ray_and_the_package_cannot_be_imported(
    one_step_policy: Exported, backend: str, tmp_path: Path
) -> None:
    moved = shutil.copytree(one_step_policy.folder, tmp_path / "robot")
    done = subprocess.run(
        [sys.executable, "-c", ACT_WITHOUT_RAY, str(moved), backend, *SELECTORS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    actions = json.loads(done.stdout)
    for selector in SELECTORS:
        here = Policy(one_step_policy.folder, selector, "torch", seed=5)
        expected = [here.act([0.1, 0.2, 0.3]) for _ in range(4)]
        np.testing.assert_allclose(actions[selector], expected, atol=5e-5)


@pytest.mark.parametrize("absent", ["not installed", "not wanted"])
def test_the_package_itself_acts_without_ray(one_step_policy: Exported, absent: str) -> None:
    code = (
        "import sys\n"
        "if sys.argv[2] == 'not installed': sys.modules['ray'] = None\n"
        "from rllib_fmq.serving import Policy\n"
        "print(Policy(sys.argv[1], 'sample', 'onnx').act([0.0] * 3).shape, sys.modules.get('ray'))"
    )
    environment = os.environ | ({"RLLIB_FMQ_REGISTER": "0"} if absent == "not wanted" else {})
    done = subprocess.run(
        [sys.executable, "-c", code, str(one_step_policy.folder), absent],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == "(2,) None\n", done.stderr


class TestActing:
    """Policy.act and Policy.reset."""

    def test_a_chunk_is_used_up_before_the_next_observation_counts(
        self, one_step_policy: Exported
    ) -> None:
        policy, other = (onnx_policy(one_step_policy, seed=1) for _ in range(2))
        first, second = observations(2)
        np.testing.assert_array_equal(policy.act(first), other.act(first))
        # The second action is the first chunk's, whatever is observed.
        np.testing.assert_array_equal(policy.act(first), other.act(second))
        assert not np.array_equal(policy.act(first), other.act(second))

    def test_reset_drops_the_chunk_and_a_seed_repeats(self, one_step_policy: Exported) -> None:
        policy = onnx_policy(one_step_policy, seed=1)
        obs = observations(1)[0]
        run = [policy.act(obs) for _ in range(3)]
        policy.reset()
        assert not np.allclose(policy.act(obs), run[-1])
        policy.reset(seed=1)
        np.testing.assert_array_equal([policy.act(obs) for _ in range(3)], run)

    def test_actions_are_the_environments(self, one_step_policy: Exported) -> None:
        env = PartsEnv()
        policy = onnx_policy(one_step_policy, "qgbs", seed=2)
        env.observation_space.seed(0)
        for _ in range(4):
            obs = env.observation_space.sample()
            action = policy.act(obs)
            assert env.action_space.contains(action), action
        policy.reset(seed=3)
        as_mapping = policy.act(obs)
        policy.reset(seed=3)
        flat = gym.spaces.flatten(env.observation_space, obs)
        np.testing.assert_array_equal(policy.act(flat), as_mapping)

    @pytest.mark.parametrize(
        ("obs", "reason"),
        [
            ([0.0, 0.0], r"expected numbers of shape \(3,\), got shape \(2,\)"),
            ([[0.0, 0.0, 0.0]], r"got shape \(1, 3\)"),
            ([0.0, np.nan, 0.0], "not finite"),
            ([0.0, 1e60, 0.0], "not finite in float32"),
            ([0.0, [1.0], 0.0], "got no array"),
            (["a", "b", "c"], "expected numbers"),
            ([True, False, True], "expected numbers"),
            (None, "expected numbers"),
            ({"goal": [0.0, 0.0]}, "arm is missing or unknown, expected goal, arm"),
            ({"goal": [0.0, 0.0], "arm": [0.0], "leg": [0.0]}, "leg is missing or unknown"),
            ({"goal": [0.0], "arm": [0.0]}, r"observation goal: expected numbers of shape \(2,\)"),
        ],
    )
    def test_observations_that_do_not_fit(
        self, one_step_policy: Exported, obs: Any, reason: str
    ) -> None:
        with pytest.raises(ValueError, match=reason):
            onnx_policy(one_step_policy).act(obs)

    def test_planned_actions_that_are_not_finite(
        self, one_step_policy: Exported, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = onnx_policy(one_step_policy, seed=1)
        first = onnx_policy(one_step_policy, seed=1).act([0.0] * 3)
        with monkeypatch.context() as patch:
            nothing = np.full((1, HORIZON, len(LOW)), np.nan, np.float32)
            patch.setattr(Planner, "plan_scaled", lambda *_: nothing)
            with pytest.raises(ValueError, match="actions planned for this observation"):
                policy.act([0.0] * 3)
        np.testing.assert_array_equal(policy.act([0.0] * 3), first)

    @pytest.mark.parametrize("seed", [-1, 1.5, True, "1"])
    def test_seeds_that_are_none(self, one_step_policy: Exported, seed: Any) -> None:
        with pytest.raises(ValueError, match="must be a whole number >= 0"):
            onnx_policy(one_step_policy, seed=seed)


class TestDamage:
    """Folders that are not whole."""

    @pytest.fixture()
    def folder(self, one_step_policy: Exported, tmp_path: Path) -> Path:
        return Path(shutil.copytree(one_step_policy.folder, tmp_path / "policy"))

    def test_no_policy(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"is no exported policy .*rllib export"):
            Policy(tmp_path)

    @BACKENDS
    def test_missing_and_damaged_programs(self, folder: Path, backend: str) -> None:
        file = folder / f"best_of_n{SUFFIXES[backend]}"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"is damaged \(its checksum differs"):
            Policy(folder, backend=backend)
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"best_of_n.* is missing"):
            Policy(folder, backend=backend)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"format_version": 99}, "has format 99, and this runtime reads 1"),
            ({"format": "other"}, "its format is 'other'"),
            ({"selectors": None}, "is damaged"),
            ({"action": {"shape": [2]}}, "is damaged"),
            ({"observation": {}}, "is damaged"),
        ],
    )
    def test_damaged_descriptions(self, folder: Path, change: dict[str, Any], reason: str) -> None:
        file = folder / "policy.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises(ValueError, match=reason):
            Policy(folder)

    def test_no_json(self, folder: Path) -> None:
        (folder / "policy.json").write_text("[" * 100_000)
        with pytest.raises(ValueError, match="or damaged"):
            Policy(folder)

    def test_unknown_backend(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="backend 'tf' is unknown"):
            Policy(folder, backend="tf")

    def test_export_overwrites_nothing(self, folder: Path) -> None:
        with pytest.raises(FileExistsError, match="name a new folder"):
            export_policy(folder, folder)
