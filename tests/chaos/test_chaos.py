"""Jobs that are killed go on; and what judges that can tell if they do not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.chaos.cases import job_config, plan, run
from benchmarks.chaos.checks import account, differences
from benchmarks.chaos.environment import FIRST_COLLECTION_SEED, LoggedDrift, read_log
from benchmarks.chaos.jobs import Job
from benchmarks.chaos.table import markdown, summarise

Rows = list[tuple[Any, ...]]


@pytest.fixture
def episode(tmp_path: Path) -> Rows:
    """An episode's transitions, which the environment has logged."""
    (tmp_path / "log").mkdir()
    env, rows = LoggedDrift(log=str(tmp_path / "log")), []
    obs, _ = env.reset(seed=FIRST_COLLECTION_SEED + 1)
    over = False
    while not over:
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, np.float32(reward), terminated, after))
        obs, over = after, terminated or truncated
    env.close()
    return rows


def save(folder: Path, rows: Rows) -> Path:
    """A checkpoint's replay: every row is one that nothing follows, or the next one's neighbour."""
    names = ("obs", "actions", "rewards", "terminated")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    ends = [
        i
        for i, row in enumerate(rows)
        if i + 1 == len(rows) or not np.array_equal(row[4], rows[i + 1][0])
    ]
    end_obs = np.array([rows[i][4] for i in ends])
    (folder / "replay").mkdir()
    joins = np.zeros((0, 2), np.int64)
    np.savez(
        folder / "replay" / "rows.npz", ends=np.array(ends), end_obs=end_obs, joins=joins, **columns
    )
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    index = {"index": {"segments": [{"name": "rows.npz", "first": 0}]}}
    (checkpoint / "replay_index.json").write_text(json.dumps(index))
    return checkpoint


def test_a_replay_that_holds_everything_once(tmp_path: Path, episode: Rows) -> None:
    found = account(save(tmp_path, episode), tmp_path / "log")
    assert found.rows == len(episode) == len(read_log(next((tmp_path / "log").iterdir())))
    assert (found.foreign, found.duplicated, found.gaps, found.lost_elsewhere) == (0, 0, 0, 0)


def test_a_transition_stored_twice_is_found(tmp_path: Path, episode: Rows) -> None:
    assert account(save(tmp_path, [*episode, episode[2]]), tmp_path / "log").duplicated == 1


def test_a_hole_in_an_episode_is_found(tmp_path: Path, episode: Rows) -> None:
    found = account(save(tmp_path, episode[:3] + episode[4:]), tmp_path / "log")
    assert (found.gaps, found.lost_elsewhere, found.foreign) == (1, 1, 0)


def test_a_changed_transition_is_found(tmp_path: Path, episode: Rows) -> None:
    obs, action, reward, terminated, after = episode[1]
    other_action = (obs, action + np.float32(1e-3), reward, terminated, after)
    other_reward = (obs, action, reward + np.float32(1e-3), terminated, after)
    for number, changed in enumerate((other_action, other_reward)):
        folder = tmp_path / str(number)
        folder.mkdir()
        checkpoint = save(folder, [episode[0], changed, *episode[2:]])
        assert account(checkpoint, tmp_path / "log").foreign == 1


def test_an_unfinished_fragment_is_excused_for_killed_processes_only(
    tmp_path: Path, episode: Rows
) -> None:
    checkpoint = save(tmp_path, episode[:-3])
    pid = int(next((tmp_path / "log").iterdir()).name.split("-")[0])
    found = account(checkpoint, tmp_path / "log", [pid])
    assert (found.lost_fragments, found.longest_lost, found.lost_elsewhere) == (1, 3, 0)
    found = account(checkpoint, tmp_path / "log")
    assert (found.lost_fragments, found.lost_elsewhere) == (0, 3)


def test_states_are_compared_bit_for_bit() -> None:
    one = {"weights": np.ones(3, np.float32), "timers": 1.0, "steps": [1, float("nan")]}
    assert differences(one, one | {"timers": 2.0}) == []
    almost = np.nextafter(one["weights"], np.float32(2))
    assert len(differences(one, one | {"weights": almost})) == 1
    assert len(differences(one, one | {"weights": np.ones(3)})) == 1
    assert len(differences(one, one | {"steps": [1]})) == 1


def test_table_adds_up() -> None:
    kills = [
        {"kind": "driver", "recovered": True, "lost": 0, "duplicated": 0},
        {"kind": "driver", "recovered": False, "lost": 2, "duplicated": 1},
        {"kind": "learner", "recovered": True, "lost": 0, "duplicated": 0},
    ]
    rows = summarise(kills)
    assert [row["kills"] for row in rows] == [2, 1, 3]
    assert rows[-1] == {"kind": "all", "kills": 3, "recovered": 2, "lost": 2, "duplicated": 1}
    assert "| driver | 2 | 1 | 2 | 1 |" in markdown(rows)


def test_plans_hold_what_they_say() -> None:
    assert sum(len(case.kills) for case in plan(short=True)) == 8
    full = [kill for case in plan(short=False) for kill in case.kills]
    assert len(full) >= 70
    kinds = Counter(kill.kind for kill in full)
    saving = "while a checkpoint is written"
    for victim in ("driver", "trial", "learner", "env-runner"):
        assert kinds[f"{victim}, offline"] >= 2
        assert kinds[f"{victim}, online, {saving}"] + kinds[f"{victim}, offline, {saving}"] >= 2


def test_jobs_are_long_enough_for_their_kills() -> None:
    for case in plan(short=False):
        config = job_config(case.shape)
        offline = sum(kill.phase == "offline" for kill in case.kills)
        assert config["offline_updates"] >= 5 * offline * config["updates_per_iteration"]


@pytest.mark.parametrize(
    ("inside", "unfinished"),
    [
        ([".tmpabcdefgh.partial-x1/file"], [".tmpabcdefgh.partial-x1"]),
        (["tmpabcdefgh/manifest.json"], ["tmpabcdefgh"]),  # Tune makes a copy of it
        (["tmpabcdefgh/", "ray/session_1/log", "tmpfile"], []),
    ],
)
def test_a_checkpoint_that_is_being_written_is_seen(
    tmp_path: Path, inside: list[str], unfinished: list[str]
) -> None:
    job = Job(tmp_path, {"offline_updates": 1}, "env", tmp_path / "data.npz")
    job.remove_scratch()
    job.scratch = tmp_path / "scratch"
    for name in inside:
        path = job.scratch / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    assert job.unfinished() == unfinished


@pytest.mark.slow
@pytest.mark.timeout(1800)  # of which starting processes takes most, on a busy machine
@pytest.mark.parametrize("case", plan(short=True), ids=lambda case: case.name)
def test_killed_jobs_go_on(case: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    planned = [kill.kind for kill in case.kills]
    output = tmp_path_factory.mktemp("chaos")
    for _ in range(3):  # a phase may be over before its kill
        kills, problem = run(case, output)
        assert not problem
        if [kill["kind"] for kill in kills] == planned:
            break
    assert [kill["kind"] for kill in kills] == planned
    assert all(kill["recovered"] for kill in kills)
