"""A user's own environment, data and notion of success, from the command line."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data.formats.transitions_npz import save_transitions
from tests.cli.conftest import TINY
from tests.command import Command, run_rllib

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODULE = """
    import gymnasium
    import numpy as np


    class Reach(gymnasium.Env):
        '''A point on a line, without an episode limit and without a word of success.'''

        metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
        observation_space = gymnasium.spaces.Dict(
            {
                "velocity": gymnasium.spaces.Box(-1, 1, (1,)),
                "position": gymnasium.spaces.Box(-1, 1, (2,), np.float64),
            }
        )
        action_space = gymnasium.spaces.Box(
            np.array([-3.0, 0.0]), np.array([5.0, 0.5]), dtype=np.float64
        )

        def __init__(self, scale=0.02, render_mode=None):
            self.scale = scale
            self.render_mode = render_mode

        def _obs(self):
            return {
                "velocity": np.array([self.v], np.float32),
                "position": np.array([self.x, 0.9]),
            }

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.x, self.v = self.np_random.uniform(-0.5, 0.5), 0.0
            return self._obs(), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            self.v = float(np.clip(self.scale * action[0], -1, 1))
            self.x = float(np.clip(self.x + self.v, -1, 1))
            return self._obs(), -abs(0.9 - self.x), False, False, {}

        def render(self):
            frame = np.zeros((40, 60, 3), np.uint8)
            frame[:, int(30 + 29 * self.x)] = 255
            return frame


    def make(**settings):
        return Reach(**settings)


    def solved(obs, reward, terminated, truncated, info):
        return reward > -0.5
"""


@pytest.fixture(autouse=True)
def forget_the_module() -> Iterator[None]:
    """Each test has a file of its own."""
    yield
    sys.modules.pop("my_reach", None)


def test_own_factory_success_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rllib: Command
) -> None:
    (tmp_path / "my_reach.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rng = np.random.default_rng(0)
    obs = np.cumsum(rng.uniform(-0.01, 0.01, (201, 3)), axis=0)
    data = save_transitions(
        tmp_path / "mine.npz",
        observations=obs[:-1],
        actions=rng.uniform([-3.0, 0.0], [5.0, 0.5], (200, 2)),
        rewards=-np.ones(200),
        next_observations=obs[1:],
        terminated=np.zeros(200, bool),
        truncated=np.zeros(200, bool),
    )
    own = ("--success-fn", "my_reach:solved", "--max-episode-steps", "15")
    outcome = run_rllib(
        *("train", "--algo", "FMQ", "--env", "my_reach:make", "--dataset", data, *own),
        *("--config", TINY, "--offline-updates", "20", "--online-env-steps", "60"),
        *("--num-env-runners", "1", "--evaluation-interval", "10", "--evaluation-episodes", "2"),
        *("--storage-path", tmp_path / "results", "-n", "run", "--no-artifacts"),
    )
    assert outcome.code == 0, outcome.err
    (results,) = tmp_path.glob("results/run/*/result.json")
    last = json.loads(results.read_text().splitlines()[-1])
    assert last["done"] and last["env_runners"]["episode_len_mean"] == 15
    assert 0 <= last["evaluation"]["env_runners"]["success_rate"] <= 1
    assert last["evaluation"]["env_runners"]["episode_len_mean"] == 15

    strip = tmp_path / "strip.png"
    monkeypatch.syspath_prepend(tmp_path)
    outcome = rllib(
        *("evaluate", tmp_path / "results" / "run", "--episodes", "2", "--strip", strip),
        *("-o", tmp_path / "outcomes.json", "--trust"),
    )
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "outcomes.json").read_text())
    assert [o["length"] for o in report["outcomes"]] == [15, 15]
    assert all(isinstance(o["success"], bool) for o in report["outcomes"])
    assert strip.is_file(), outcome.out
    with pytest.importorskip("PIL.Image").open(strip) as picture:
        assert picture.size == (8 * 64 - 4, 40)


def test_what_is_wrong_with_it_shows_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rllib: Command
) -> None:
    (tmp_path / "my_reach.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    outcome = rllib(
        *("train", "--algo", "FMQ", "--env", "my_reach:mak", "--dataset", tmp_path / "no.npz")
    )
    assert outcome.code == 1 and len(outcome.err.strip().splitlines()) == 1
    assert "my_reach has no 'mak'" in outcome.err
