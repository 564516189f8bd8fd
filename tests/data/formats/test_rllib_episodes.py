"""Episodes that RLlib recorded: fragments, order, both forms, never a pickle."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_fmq.data import check_fits, load_dataset
from tests.data.formats.damage_common import object_array
from tests.data.formats.recordings import (
    episodes_of,
    fragments_of,
    make_table,
    pack,
    rllib_episode,
    write_rllib,
)


@given(data=st.data(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_round_trip_over_fragment_borders(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, lengths: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("rllib")
    table = make_table(lengths, seed=data.draw(st.integers(0, 99)))
    first, later = [], []
    for number, episode in enumerate(episodes_of(table)):
        inner = range(1, len(episode["rewards"]))
        borders = sorted(data.draw(st.sets(st.sampled_from(inner)))) if inner else []
        lookback = data.draw(st.integers(0, 3))
        parts = fragments_of(rllib_episode(episode, f"e{number}"), borders, lookback)
        first.append(parts[0])
        later += parts[1:]
    write_rllib(first, folder / "env" / "run-000000-00001" / "a.parquet")
    order = data.draw(st.permutations(later))
    # As RLlib does it: with everything written before once more.
    write_rllib([*order, *first], folder / "env" / "run-000000-00002" / "b.parquet")
    assert load_dataset(folder, "E").fingerprint == table.fingerprint


def test_finished_episodes_and_dicts_of_observations(tmp_path: Path) -> None:
    table = make_table([6])
    (episode,) = episodes_of(table)
    space = gym.spaces.Dict(
        [
            ("z", gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)),
            ("a", gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)),
        ]
    )
    observations = [OrderedDict(a=obs[1:], z=obs[:1]) for obs in episode["observations"]]
    recorded = rllib_episode({**episode, "observations": observations}, "e0", space)
    path = write_rllib([recorded], tmp_path / "lists.parquet")
    assert load_dataset(path, "E").fingerprint == table.fingerprint
    path = write_rllib([recorded.to_numpy()], tmp_path / "arrays.parquet")
    assert load_dataset(path, "E").fingerprint == table.fingerprint


def test_where_a_fragment_is_missing_the_trajectory_is_cut(tmp_path: Path) -> None:
    table = make_table([9], ended=[True])
    (episode,) = episodes_of(table)
    parts = fragments_of(rllib_episode(episode, "e0"), [3, 5])
    short = load_dataset(write_rllib([parts[0], parts[2]], tmp_path / "a.parquet"), "E")
    np.testing.assert_array_equal(short.obs, table.obs[[0, 1, 2, 5, 6, 7, 8]])
    assert np.flatnonzero(short.episode_end).tolist() == [2, 6]
    assert np.flatnonzero(short.terminated).tolist() == [6]
    np.testing.assert_array_equal(short.final_obs, [table.obs[3], table.final_obs[0]])


def test_a_fragment_must_begin_where_the_one_before_ends(tmp_path: Path) -> None:
    (episode,) = episodes_of(make_table([9]))
    (other,) = episodes_of(make_table([9], seed=1))
    parts = [
        fragments_of(rllib_episode(episode, "e0"), [3])[0],
        fragments_of(rllib_episode(other, "e0"), [3])[1],
    ]
    with pytest.raises(ValueError, match="steps 3 to 9 does not begin where"):
        load_dataset(write_rllib(parts, tmp_path / "a.parquet"), "E")


@pytest.mark.parametrize("patched", [False, True])
def test_pickles_are_never_loaded(
    patched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patched:  # what RLlib does to the package when it saves or reads msgpack
        msgpack_numpy = pytest.importorskip("msgpack_numpy")
        for name in ("unpackb", "loads", "Unpacker"):
            monkeypatch.setattr(msgpack, name, getattr(msgpack_numpy, name, msgpack_numpy.unpackb))
    canary = tmp_path / "canary"
    recorded = rllib_episode(episodes_of(make_table([4], ended=[True]))[0], "e0")
    state = recorded.get_state()
    state["infos"]["data"] = object_array(canary, 5)
    path = write_rllib([msgpack.packb(state, default=pack)], tmp_path / "infos.parquet")
    assert load_dataset(path, "E").num_steps == 4
    state["actions"]["data"] = object_array(canary, 4)
    path = write_rllib([msgpack.packb(state, default=pack)], tmp_path / "actions.parquet")
    with pytest.raises(ValueError, match=r"row 0: actions are pickled objects, which are never"):
        load_dataset(path, "E")
    assert not canary.exists()


ROWS = {
    "eps_id": ["e0", "e0", "e1", "e1", "e1"],
    "obs": [[0.0], [1.0], [5.0], [6.0], [7.0]],
    "actions": [[0.5]] * 5,
    "rewards": [1.0, 2.0, 3.0, 4.0, 5.0],
    "new_obs": [[1.0], [2.0], [6.0], [7.0], [8.0]],
    "terminateds": [False, True, False, False, False],
    "truncateds": [False] * 5,
}


def write_rows(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**ROWS, **changes}), path)
    return path


def test_a_row_a_step(tmp_path: Path) -> None:
    write_rows(tmp_path / "run-1" / "a.parquet")
    table = load_dataset(tmp_path, "E")
    assert table.obs[:, 0].tolist() == [0, 1, 5, 6, 7]
    assert np.flatnonzero(table.episode_end).tolist() == [1, 4]
    assert table.final_obs[:, 0].tolist() == [2, 8]
    assert table.terminated.tolist() == [False, True, False, False, False]
    # Written again, with more; then only the rest.
    more = {key: [*values, *values[-1:]] for key, values in ROWS.items()}
    more["obs"][-1], more["new_obs"][-1] = [8.0], [9.0]
    write_rows(tmp_path / "run-2" / "a.parquet", **more)
    rest = {key: values[-1:] for key, values in more.items()}
    rest["obs"], rest["new_obs"] = [[9.0]], [[10.0]]
    write_rows(tmp_path / "run-3" / "a.parquet", **rest)
    table = load_dataset(tmp_path, "E")
    assert table.obs[:, 0].tolist() == [0, 1, 5, 6, 7, 8, 9]
    assert np.flatnonzero(table.episode_end).tolist() == [1, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs": ["gASV"] * 5}, r"compressed into pickles.*output_compress_columns=\[\]"),
        ({"actions": [1] * 5}, "actions holds int64, expected lists"),
        ({"obs": [[0.0], [1.0, 2.0], [0.0], [0.0], [0.0]]}, r"different sizes: \[1, 2\]"),
        ({"rewards": [1.0, None, 3.0, 4.0, 5.0]}, "rewards lacks values in 1 rows"),
        ({"terminateds": [0, 7, 0, 0, 0]}, "terminateds is 7 at row 1; a flag is 0 or 1"),
        ({"truncateds": [0.0, 0.0, 0.0, 0.0, 0.5]}, r"truncateds is 0\.5 at row 4"),
        ({"truncateds": ["no"] * 5}, "truncateds holds object, expected flags"),
        ({"rewards": [1.0, 2.0, 3.0, np.inf, 5.0]}, "episode e1: rewards is inf at row 1 "),
        (
            {"obs": [*ROWS["obs"][:4], [np.nan]], "new_obs": [*ROWS["obs"][1:4], [np.nan], [8.0]]},
            "episode e1: observations is nan at row 2, entry 0",
        ),
        ({"terminateds": [True] + [False] * 4}, "episode e0 ends at its row 0, but has more"),
    ],
)
def test_bad_rows(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_rows(tmp_path / "a.parquet", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(path, "E")
    assert str(path) in str(caught.value)


def test_other_parquet_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet was not recorded by RLlib: .* columns x"):
        load_dataset(tmp_path, "E")
    write_rows(tmp_path / "a.parquet")
    write_rllib([rllib_episode(episodes_of(make_table([4]))[0], "e0")], tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet holds steps, .*b\.parquet episodes"):
        load_dataset(tmp_path, "E")


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [True, False])
def test_recorded_by_rllib(tmp_path: Path, ray_session: None, episodes: bool) -> None:
    if episodes:
        pytest.importorskip("msgpack_numpy")  # RLlib's recorder needs it
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    config = (
        PPOConfig()
        .environment("Pendulum-v1", normalize_actions=False)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .offline_data(
            output=str(tmp_path), output_write_episodes=episodes, output_compress_columns=[]
        )
    )
    runner = OfflineSingleAgentEnvRunner(config=config, worker_index=0)
    sampled = [runner.sample(num_timesteps=22, random_actions=True) for _ in range(2)]
    runner.stop()
    table = load_dataset(tmp_path, "Pendulum-v1")
    assert (table.num_steps, table.num_episodes) == (44, 2)
    env = gym.make("Pendulum-v1")
    check_fits(table, env.observation_space, env.action_space)
    fragments = [part for parts in sampled for part in parts]
    for name in {part.id_ for part in fragments}:
        own = [part for part in fragments if part.id_ == name]
        obs = np.concatenate([part.get_observations()[:-1] for part in own])
        start = 0 if (table.obs[0] == obs[0]).all() else 22
        np.testing.assert_array_equal(table.obs[start : start + 22], obs)
        actions = np.concatenate([part.get_actions() for part in own])
        np.testing.assert_array_equal(table.actions[start : start + 22], actions)
        rewards = np.concatenate([part.get_rewards() for part in own])
        np.testing.assert_allclose(table.rewards[start : start + 22], rewards, rtol=1e-6)
