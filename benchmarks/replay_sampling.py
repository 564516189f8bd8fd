"""What drawing a batch from the replay costs, beside two plain ways to read the same windows.

    OMP_NUM_THREADS=1 python benchmarks/replay_sampling.py --rows 2000000

256 windows of 5 steps at cube-double's sizes (observations 37, actions 5). Half of the rows are
offline data, half were added online by one environment; episodes have 1,000 steps. All cells draw
their rows, give the keys of `WindowBatch` as torch tensors that own their memory, and run in turn
in one process; what is printed are ratios of medians.

- "numpy gather": what one writes in NumPy without tricks. Every column is an array, next
  observations too, as usual replay buffers store them; each key is its array indexed with the row
  numbers of the windows: observations at the first step, next observations at the last, actions,
  rewards and terminations at all of them. Where an episode ends comes from an array with the last
  row of every row's episode, and what lies past it is multiplied by 0.
- "contiguous": the windows are known to be neighbouring rows of one episode, so nothing is looked
  at or masked: strided views of the columns, one `index_select` each (`torch.embedding` for the
  observations, which is faster).
- "replay": `ReplayTable.sample`. "replay, interleaved" (only printed) is a replay whose online
  half came from 8 environments in turn, in fragments of 25 steps, so that every fifth of its
  windows has to be put together from two pieces.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from rllib_fmq.learner.replay import ReplayTable
from rllib_fmq.nn.objectives import WindowBatch

OBS_DIM, ACTION_DIM, EPISODE = 37, 5, 1000
BATCH, HORIZON = 256, 5
FRAGMENT, ENVIRONMENTS = 25, 8

Cell = Callable[[], object]


def make_columns(rows: int) -> dict[str, np.ndarray]:
    """Random columns of a table; every third episode ends by a termination."""
    random = np.random.default_rng(0)
    end = np.arange(rows) % EPISODE == EPISODE - 1
    end[-1] = True
    terminated = np.zeros(rows, bool)
    terminated[np.flatnonzero(end)[::3]] = True
    return {
        "obs": random.random((rows, OBS_DIM), np.float32),
        "actions": random.random((rows, ACTION_DIM), np.float32),
        "rewards": random.random(rows, np.float32),
        "terminated": terminated,
        "episode_end": end,
        "final_obs": random.random((int(end.sum()), OBS_DIM), np.float32),
    }


def fill_replay(columns: dict[str, np.ndarray], environments: int = 1) -> ReplayTable:
    """A replay that holds all rows.

    Args:
        columns: Of `make_columns`. The first half of its episodes is offline data.
        environments: That add the other half in turn, fragment by fragment; with one the rows
            keep their order.
    """
    ends = np.flatnonzero(columns["episode_end"])
    starts = np.append(0, ends[:-1] + 1)
    half = max(1, len(ends) // 2)
    offline = {name: column[: ends[half - 1] + 1] for name, column in columns.items()}
    offline["final_obs"] = columns["final_obs"][:half]
    replay = ReplayTable(len(columns["obs"]), OBS_DIM, ACTION_DIM)
    replay.add_offline(offline)
    for first in range(half, len(ends), environments):
        group = range(first, min(first + environments, len(ends)))
        for step in range(0, EPISODE, FRAGMENT):
            for episode in group:
                start = starts[episode] + step
                stop = min(start + FRAGMENT, ends[episode] + 1)
                if start >= stop:
                    continue
                done = bool(stop > ends[episode])
                after = columns["final_obs"][episode] if done else columns["obs"][stop]
                replay.add_fragment(
                    f"episode-{episode}",
                    np.concatenate([columns["obs"][start:stop], after[None]]),
                    columns["actions"][start:stop],
                    columns["rewards"][start:stop],
                    terminated=bool(columns["terminated"][stop - 1]),
                    done=done,
                )
    return replay


def numpy_gather(columns: dict[str, np.ndarray]) -> Cell:
    """The plain NumPy way; see the module's docstring."""
    random = np.random.default_rng(1)
    observations, actions = columns["obs"], columns["actions"]
    rewards, terminated = columns["rewards"], columns["terminated"]
    ends = np.flatnonzero(columns["episode_end"])
    next_observations = np.empty_like(observations)
    next_observations[:-1] = observations[1:]
    next_observations[ends] = columns["final_obs"]
    last_rows = np.repeat(ends, np.diff(ends, prepend=-1))

    def sample() -> WindowBatch:
        start = random.integers(len(observations), size=BATCH)
        last = last_rows[start][:, None]
        steps = start[:, None] + np.arange(HORIZON)
        within = steps <= last
        rows = np.minimum(steps, last)
        batch = (
            observations[start],
            (actions[rows] * within[..., None]).reshape(BATCH, -1),
            np.repeat(within, ACTION_DIM, axis=1).astype(np.float32),
            rewards[rows] * within,
            terminated[rows] & within,
            next_observations[rows[:, -1]],
            within[:, -1].astype(np.float32),
        )
        return WindowBatch(*(torch.from_numpy(array) for array in batch))

    return sample


def contiguous(columns: dict[str, np.ndarray]) -> Cell:
    """Windows that need no look at where episodes end; see the module's docstring."""
    generator = torch.Generator().manual_seed(2)
    observations = torch.from_numpy(columns["obs"])
    last = len(observations) - HORIZON
    actions = torch.from_numpy(columns["actions"])
    actions = actions.as_strided((last + 1, HORIZON * ACTION_DIM), (ACTION_DIM, 1))
    rewards = torch.from_numpy(columns["rewards"]).unfold(0, HORIZON, 1)
    terminated = torch.from_numpy(columns["terminated"]).unfold(0, HORIZON, 1)

    def sample() -> WindowBatch:
        start = torch.randint(last, (BATCH,), generator=generator)
        return WindowBatch(
            obs=torch.embedding(observations, start),
            actions=actions.index_select(0, start),
            valid=torch.ones(BATCH, HORIZON * ACTION_DIM),
            rewards=rewards.index_select(0, start),
            terminated=terminated.index_select(0, start),
            next_obs=torch.embedding(observations, start + HORIZON),
            complete=torch.ones(BATCH),
        )

    return sample


def replay_cell(replay: ReplayTable) -> Cell:
    """Drawing a batch from a replay."""
    generator = torch.Generator().manual_seed(3)
    return lambda: replay.sample(BATCH, HORIZON, generator)


def cells(rows: int) -> dict[str, Cell]:
    """What is to be timed in turn, with one thread.

    Args:
        rows: Of the replay and of the arrays.
    Returns:
        "replay", "numpy gather" and "contiguous"; each call gives one batch.
    """
    columns = make_columns(rows)
    return {
        "replay": replay_cell(fill_replay(columns)),
        "numpy gather": numpy_gather(columns),
        "contiguous": contiguous(columns),
    }


def medians(timed: dict[str, Cell], rounds: int) -> dict[str, float]:
    """Seconds of a call, the cells in turn in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    timed = cells(args.rows)
    medians(timed, 50)  # what the first calls cost is not measured
    result = medians(timed, args.rounds)
    print(f"{BATCH} windows of {HORIZON} steps from {args.rows:,} rows, {args.rounds} rounds")
    for name in ("numpy gather", "contiguous"):
        print(f"replay / {name:13} {result['replay'] / result[name]:.3f}")
    del timed["numpy gather"], timed["contiguous"]
    timed["interleaved"] = replay_cell(fill_replay(make_columns(args.rows), ENVIRONMENTS))
    medians(timed, 50)
    result = medians(timed, args.rounds)
    print(f"replay, interleaved / replay {result['interleaved'] / result['replay']:.3f}")


if __name__ == "__main__":
    main()
