"""Bad inputs that Hypothesis makes up: refused in one line, or harmless; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rllib_fmq import FMQConfig
from rllib_fmq.algorithms.settings import FlowMapSettings
from tests.bad_input.cases_dataset import columns, good_arrays, hdf5, npz
from tests.bad_input.harness import STARTED, Record, check_handled, fmq, snapshot
from tests.command import Command, Outcome

pytestmark = pytest.mark.timeout(300)

_EXAMPLES = 30
_NO_KEY = st.text(max_size=12).filter(lambda key: key not in vars(FMQConfig()))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4),
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(st.text(max_size=4), parts),
    max_leaves=4,
)
# No command that begins real work when it is given the right words.
_WORDS = st.sampled_from(
    (
        *("train", "file", "evaluate", "plot", "study", "run", "report", "data", "info"),
        *("convert", "list", "download", "--algo", "--env", "--config", "--stop", "--dataset"),
        *("--seed", "--resume", "-n", "-o", "--selector", "--episodes", "--help", "--", "-"),
        *("FMQ", "PPO", "Pendulum-v1", "CartPole-v1", "data.npz", "cube-dbl-t3", "gone", "."),
        *("1", "-1", "nan", "1e999", "{}", "[]", "null", "", " ", "\n", "\0", "é", "\u202e", "%s"),
        *("new.npz", "--overwrite=", "--storage-path", "results", "-qx", "--eta=x", "~"),
    )
)


def _random(strategy: st.SearchStrategy[Any], test: Callable[[Any], None]) -> int:
    """Run a test with examples, always the same ones; returns how many."""
    count = 0

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(drawn: Any) -> None:
        nonlocal count
        count += 1
        test(drawn)

    run()
    return count


def _check(outcome: Outcome, folder: Path, before: dict[str, str]) -> bool:
    """As ``check_handled``; an input with which a run would start is none that is bad."""
    if STARTED in outcome.err:
        assert snapshot(folder) == before
        return False
    return check_handled(outcome, folder, before)


def test_words(rllib: Command, folder: Path, tried_random: Record) -> None:
    def test(words: list[str]) -> None:
        for made in ("new.npz", "curves.png"):
            (folder / made).unlink(missing_ok=True)
        _check(rllib(*words), folder, snapshot(folder))

    tried_random("cli", _random(st.lists(_WORDS, min_size=1, max_size=7), test))


def test_unknown_keys(rllib: Command, folder: Path, tried_random: Record) -> None:
    before = snapshot(folder)

    def test(config: dict[str, Any]) -> None:
        outcome = rllib(*fmq("--config", json.dumps(config)))
        assert _check(outcome, folder, before)
        assert "has no config key" in outcome.err

    keys = st.dictionaries(_NO_KEY, _JSON, min_size=1, max_size=2)
    tried_random("config", _random(keys, test))


def test_values_of_our_keys(rllib: Command, folder: Path, tried_random: Record) -> None:
    theirs = vars(FlowMapSettings.__base__())
    ours = sorted(set(vars(FMQConfig())) - set(theirs))
    before = snapshot(folder)

    def test(drawn: tuple[str, Any]) -> None:
        key, value = drawn
        outcome = rllib(*fmq("--config", json.dumps({key: value})))
        if _check(outcome, folder, before):
            words = {key, *key.split("_")}
            assert any(word in outcome.err for word in words), outcome.err

    tried_random("config", _random(st.tuples(st.sampled_from(ours), _JSON), test))


def test_values_of_rllibs_keys(rllib: Command, folder: Path, tried_random: Record) -> None:
    keys = sorted(key for key in vars(FlowMapSettings.__base__()) if not key.startswith("_"))
    before = snapshot(folder)

    def test(drawn: tuple[str, Any]) -> None:
        _check(rllib(*fmq("--config", json.dumps(dict([drawn])))), folder, before)

    tried_random("config", _random(st.tuples(st.sampled_from(keys), _JSON), test))


def test_bytes_for_texts(rllib: Command, folder: Path, tried_random: Record) -> None:
    """Any bytes as a config, a settings file, results."""

    def test(content: bytes) -> None:
        (folder / "run").mkdir(exist_ok=True)
        for name in ("bad.json", "run/result.json", "run/progress.csv"):
            (folder / name).write_bytes(content)
        for arguments in (
            fmq("--config", "bad.json"),
            ("plot", "run"),
            ("study", "report", "run"),
            ("data", "info", "bad.json"),
        ):
            before = snapshot(folder)
            _check(rllib(*arguments), folder, before)

    texts = st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode())
    tried_random("cli", _random(texts, test))


def _damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that was cut, has changed bytes, or lost or won some in the middle."""
    place = st.integers(0, len(content) - 1)

    def change(drawn: tuple[str, int, int, bytes]) -> bytes:
        kind, start, stop, other = drawn
        start, stop = sorted((start, stop))
        if kind == "cut":
            return content[:start]
        if kind == "changed":
            return content[:start] + other + content[start + len(other) :]
        if kind == "lost":
            return content[:start] + content[stop:]
        return content[:start] + other + content[start:]

    kinds = st.sampled_from(("cut", "changed", "lost", "won"))
    return st.tuples(kinds, place, place, st.binary(min_size=1, max_size=9)).map(change)


def _flat() -> dict[str, Any]:
    arrays = good_arrays()
    kept = {key: arrays[key] for key in ("observations", "actions", "rewards")}
    return kept | {"terminals": arrays["terminated"], "timeouts": arrays["truncated"]}


@pytest.mark.parametrize("file", ["bad.npz", "bad.hdf5", "bad.columns/meta.json"])
def test_damaged_datasets(rllib: Command, folder: Path, tried_random: Record, file: str) -> None:
    for name, content in columns().items():
        (folder / "bad.columns").mkdir(exist_ok=True)
        (folder / "bad.columns" / name).write_bytes(content)
    sound = {"bad.npz": npz(good_arrays()), "bad.hdf5": hdf5(_flat())}.get(file)
    path = folder / file
    whole = path.read_bytes() if sound is None else sound

    def test(content: bytes) -> None:
        path.write_bytes(content)
        _check(rllib("data", "info", file.split("/")[0]), folder, snapshot(folder))

    tried_random("dataset", _random(_damaged(whole), test))
