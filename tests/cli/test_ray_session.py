"""Starting Ray on a machine that is too busy for it, or has no room for a trial."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.tune import PlacementGroupFactory

from rllib_fmq.cli.errors import CommandError
from rllib_fmq.cli.ray_session import start_ray

TOO_SLOW = "The current node timed out during startup. This could happen because ..."


class Slow:
    """Ray, which starts at the given attempt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, starts_at: int, message: str) -> None:
        self.attempts, self.starts_at, self.message = 0, starts_at, message
        monkeypatch.setattr(ray, "init", self.init)
        monkeypatch.setattr(ray, "shutdown", lambda: None)
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])

    def init(self, **arguments: Any) -> None:
        self.attempts += 1
        if self.attempts < self.starts_at:
            raise Exception(self.message)


def start() -> None:
    request = PlacementGroupFactory([{"CPU": 1.0}])
    start_ray([request], address=None, num_cpus=4, num_gpus=None, verbose=0)


def test_a_slow_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Slow(monkeypatch, 3, TOO_SLOW)
    start()
    assert slow.attempts == 3
    assert capsys.readouterr().err.count("too busy") == 2


@pytest.mark.parametrize(("message", "attempts"), [(TOO_SLOW, 3), ("no space left", 1)])
def test_not_for_ever_and_not_after_other_errors(
    monkeypatch: pytest.MonkeyPatch, message: str, attempts: int
) -> None:
    slow = Slow(monkeypatch, 99, message)
    with pytest.raises(Exception, match=message[:12]):
        start()
    assert slow.attempts == attempts


def join(monkeypatch: pytest.MonkeyPatch, machines: Any, *requests: Any) -> None:
    """A cluster of such machines."""
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    monkeypatch.setattr(ray, "init", lambda **arguments: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    start_ray(requests, address="here", num_cpus=None, num_gpus=None, verbose=0)


@pytest.mark.parametrize(
    ("bundles", "strategy", "machines", "message"),
    [
        ([{"CPU": 3}] * 2, "PACK", [{"CPU": 5}, {"CPU": 1}], "needs 2 x 3 CPU, each on one"),
        ([{"CPU": 8, "GPU": 1}], "PACK", [{"CPU": 4, "GPU": 1}, {"CPU": 8}], "8 CPU, 1 GPU"),
        ([{"CPU": 1, "fast": 1}], "PACK", [{"CPU": 4}], "needs 1 CPU, 1 fast, each"),
        ([{"CPU": 3}] * 2, "STRICT_PACK", [{"CPU": 5}] * 2, "needs 2 x 3 CPU, on one machine"),
        ([{"CPU": 1, "GPU": 2}], "PACK", [{"CPU": 4, "GPU": 1}], "needs 2 GPUs, and Ray has 1"),
    ],
)
def test_a_trial_that_would_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, bundles: Any, strategy: str, machines: Any, message: str
) -> None:
    request = PlacementGroupFactory(bundles, strategy=strategy)
    with pytest.raises(CommandError, match=message):
        join(monkeypatch, machines, request)


@pytest.mark.parametrize(
    ("bundles", "machines"),
    [
        ([{"CPU": 3}] * 2, [{"CPU": 3}] * 2),
        ([{"CPU": 1}, {"CPU": 1, "fast": 1}], [{"CPU": 1, "fast": 1}, {"CPU": 1}]),
        ([{"CPU": 8}, {"CPU": 1, "GPU": 1}], [{"CPU": 8, "GPU": 1}, {"CPU": 1, "GPU": 1}]),
    ],
)
def test_a_trial_with_room_just_enough(
    monkeypatch: pytest.MonkeyPatch, bundles: Any, machines: Any
) -> None:
    join(monkeypatch, machines, PlacementGroupFactory(bundles))


def test_each_trial_needs_room_for_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    offline = PlacementGroupFactory([{"CPU": 1}, {"GPU": 1}])
    online = PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}, {"GPU": 1}])
    join(monkeypatch, [{"CPU": 2, "GPU": 1}], offline, online)
    join(monkeypatch, [{"CPU": 1}])  # nothing is to run
