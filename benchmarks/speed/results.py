"""What a run gave, and what it has to show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.speed.problem import UPDATES
from benchmarks.speed.timing import Spread, Timings

Clock: TypeAlias = Literal["cpu", "wall"]


class Results:
    """Read access to the JSON of a run; what was not measured is None.

    Args:
        data: Of ``Suite.run``.
        clock: "cpu", processor time of this process and all its threads, or "wall". On one core
            they differ only by the turns of other processes.
    """

    def __init__(self, data: dict[str, Any], clock: Clock = "cpu") -> None:
        self.data, self.clock = data, clock
        self.timings = {
            name: Timings.from_json(json.dumps(timings))
            for name, timings in data["timings"].items()
        }

    @classmethod
    def read(cls, path: Path, clock: Clock = "cpu") -> Results:
        """From a file."""
        return cls(json.loads(path.read_text(encoding="utf-8")), clock)

    @property
    def waited(self) -> float | None:
        """Share of the timed cells' wall time in which they had no processor, in percent."""
        wall, cpu = (
            sum(sum(values) for timings in self.timings.values() for values in table(timings))
            for table in (lambda t: t.wall.values(), lambda t: t.cpu.values())
        )
        return 100 * (1 - cpu / wall) if wall else None

    def ratio(self, group: str, a: str, b: str, scale: float = 1.0) -> Spread | None:
        """Time of ``a`` over time of ``b`` within a group, times ``scale``."""
        timings = self.timings.get(group)
        if timings is None or not {a, b} <= timings.wall.keys():
            return None
        return Spread(*(scale * value for value in timings.ratio(a, b, self.clock)))

    def share(self, group: str, name: str = "share") -> Spread | None:
        """Of the whole, in percent."""
        shares = self.data["shares"].get(group)
        return None if shares is None else Spread.of([100 * value for value in shares[name]])

    def note(self, name: str) -> str | None:
        """Why something is missing."""
        note: str | None = self.data["notes"].get(name)
        return note


@dataclass(frozen=True)
class Target:
    """One figure that has to be shown, and its bound."""

    text: str
    measured: Spread | None
    relation: Literal["at least", "at most"]
    bound: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        """By the median."""
        if self.measured is None:
            return "not measured"
        value = self.measured.median
        met = value >= self.bound if self.relation == "at least" else value <= self.bound
        return "met" if met else "**NOT met**"


def targets(results: Results) -> Iterator[Target]:
    """Everything that issue and documentation promise, in the order of the tables."""
    for group in (name for name in results.timings if name.startswith("update ")):
        yield from _update_targets(results, group)
    for mode in ("eager", "compiled"):
        share = results.share(f"learner {mode}")
        yield Target(f"RLlib's share of an offline update, {mode}", share, "at most", 3, " %")
    for target, bound in (("best-of-32", 96), ("one-sample", 92)):
        share = results.share(f"loop {target}")
        yield Target(f"online loop, {target}: in the update", share, "at least", bound, " %")
    one = "decision cube-double 1"
    for text, a, b, relation, bound in (
        ("QGBS (1, 4, 4) / best-of-32", "qgbs", "best_of_n", "at most", 1.0),
        ("best-of-32 / sample", "best_of_n", "sample", "at least", 8.0),
        ("10-step Euler best-of-32 / sample", "euler", "sample", "at least", 25.0),
    ):
        measured = results.ratio(one, a, b)
        yield Target(f"one observation: time of {text}", measured, relation, bound)
    for text, other, bound in (
        ("a numpy gather", "numpy gather", 0.4),
        ("a contiguous one", "contiguous", 1.0),
    ):
        measured = results.ratio("replay", "replay", other)
        yield Target(f"replay: time of a batch / {text}", measured, "at most", bound)


def _update_targets(results: Results, group: str) -> Iterator[Target]:
    _, task, name = group.split()
    method, online, candidates = UPDATES[name]
    text = f"{task} {name}: "
    if method == "FMQ":
        ceiling = results.ratio(group, "ceiling", "rllib_fmq", 100)
        bound = 70 if candidates == 1 else 80
        yield Target(f"{text}of the GEMM ceiling", ceiling, "at least", bound, " %")
        plain = results.ratio(group, "plain", "rllib_fmq")
        bound = 1.3 if candidates == 1 else 1.25
        yield Target(f"{text}plain PyTorch / rllib_fmq", plain, "at least", bound)
    jax = results.ratio(group, "jax", "rllib_fmq")
    bound = 1.3 if method == "FMQ" and online else 1.0
    yield Target(f"{text}JAX / rllib_fmq", jax, "at least", bound)
