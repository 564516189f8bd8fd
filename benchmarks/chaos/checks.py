"""What a job that was killed is compared by: its last checkpoint and the environments' logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chaos.environment import Step, content_of, read_log
from rllib_fmq.checkpointing.plain_pickle import load_plain

_LEARNER = Path("learner_group") / "learner"
_NETWORKS = _LEARNER / "rl_module" / "default_policy" / "module_state.pkl"
_CLOCKS = ("metrics", "timer")


@dataclass(frozen=True)
class Row:
    """A transition of a replay."""

    content: bytes
    """See ``content_of``."""
    action: bytes
    """Two float32."""


def read_replay(checkpoint: Path) -> list[Row]:
    """A checkpoint's online transitions, in the order of adding.

    The files are read here, not by the code that is on trial.
    """
    index = json.loads((checkpoint / "replay_index.json").read_text(encoding="utf-8"))["index"]
    files = [checkpoint.parent / "replay" / part["name"] for part in index["segments"]]
    parts = [np.load(path, allow_pickle=False) for path in files]
    if not parts:
        return []
    columns = ("obs", "actions", "rewards", "terminated")
    obs, actions, rewards, terminated = (np.concatenate([p[c] for p in parts]) for c in columns)
    first = index["segments"][0]["first"]
    following = np.concatenate([obs[1:], obs[:1]])
    for part in parts:
        following[part["ends"] - first] = part["end_obs"]
    for part in parts:
        earlier, later = part["joins"].T - first
        following[earlier] = obs[later]
    rows = zip(obs, actions, rewards, terminated, following, strict=True)
    return [Row(content_of(o, r, bool(end), after), a.tobytes()) for o, a, r, end, after in rows]


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Networks, optimiser, counters and generators of a checkpoint."""
    state = {}
    for path in (_NETWORKS, _LEARNER / "state.pkl"):
        with open(checkpoint / path, "rb") as file:
            state[path.name] = load_plain(file)
    with open(checkpoint / "resume_state.pkl", "rb") as file:
        state["generators"] = load_plain(file)["generators"]
    return state


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values are not the same bit for bit; timers and their like aside."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = [f"{where}/{key}: only in one" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            if not any(word in str(key) for word in _CLOCKS):
                found += differences(one[key], other[key], f"{where}/{key}")
        return found
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} parts"]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{where}/{i}")]
    pair = np.asarray(one), np.asarray(other)
    equal_nan = pair[0].dtype.kind == "f"
    same = pair[0].dtype == pair[1].dtype and np.array_equal(*pair, equal_nan=equal_nan)
    return [] if same else [f"{where}: {one!r} and {other!r}"[:200]]


@dataclass(frozen=True)
class Account:
    """Where a job's transitions have gone."""

    rows: int
    """Transitions of the replay."""
    foreign: int
    """Of these, how many are not as an environment made them."""
    duplicated: int
    """Of these, how many are there once more, or are another version of the same step."""
    gaps: int
    """Steps that are missing inside an episode: before its last one that the replay has."""
    lost_fragments: int
    """Environments, of processes that were killed, whose last steps the replay lacks."""
    lost_in_them: int
    """How many steps these are."""
    longest_lost: int
    """The most of them in one environment."""
    lost_elsewhere: int
    """Other logged steps that the replay lacks."""


def account(checkpoint: Path, logs: Path, killed: Collection[int] = ()) -> Account:
    """Compare a checkpoint's replay with what the environments experienced.

    Args:
        checkpoint: The job's last one.
        logs: Folder of the environments' logs.
        killed: Process ids of the env-runners that were killed, where nothing but those died and
            each environment's log is therefore a part of the replay but for its end.
    """
    replay = read_replay(checkpoint)
    by_process = {path: read_log(path) for path in sorted(logs.glob("*.steps"))}
    known = {step.content: step for steps in by_process.values() for step in steps}
    found = [known[row.content] for row in replay if _same_action(known.get(row.content), row)]
    places = Counter((step.seed, step.index) for step in found)
    episodes: dict[int, set[int]] = {}
    for seed, index in places:
        episodes.setdefault(seed, set()).add(index)
    held = {row.content for row in replay}
    fragments, elsewhere = [], 0
    for path, steps in by_process.items():
        delivered, rest = _split(steps, held)
        missing = sum(step.content not in held for step in delivered)
        if int(path.name.split("-")[0]) in killed:
            fragments += [len(rest)] if rest else []
        else:
            missing += len(rest)
        elsewhere += missing
    return Account(
        rows=len(replay),
        foreign=len(replay) - len(found),
        duplicated=len(found) - len(places),
        gaps=sum(max(indices) + 1 - len(indices) for indices in episodes.values()),
        lost_fragments=len(fragments),
        lost_in_them=sum(fragments),
        longest_lost=max(fragments, default=0),
        lost_elsewhere=elsewhere,
    )


def _same_action(step: Step | None, row: Row) -> bool:
    if step is None:
        return False
    return np.allclose(np.frombuffer(row.action, np.float32), step.action, rtol=0, atol=1e-6)


def _split(steps: list[Step], held: set[bytes]) -> tuple[list[Step], list[Step]]:
    """Up to the last step that the replay holds, and what comes after it."""
    last = max((i + 1 for i, step in enumerate(steps) if step.content in held), default=0)
    return steps[:last], steps[last:]
