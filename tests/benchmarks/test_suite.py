"""The suite itself, on tiny networks: everything runs, and nothing is called what it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed import flops, groups, ours
from benchmarks.speed.ceiling import Ceiling
from benchmarks.speed.problem import QUICK, SELECTORS, UPDATES
from benchmarks.speed.results import Results
from benchmarks.speed.stopwatch import Accumulator
from benchmarks.speed.suite import SECONDS, Options, Suite
from rllib_fmq.nn import compilation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ceiling() -> Ceiling:
    """Of all updates at the quick sizes."""
    gemms = [gemm for chosen in UPDATES.values() for gemm in flops.update(QUICK, *chosen)]
    return Ceiling(gemms, rounds=1, seconds=1e-5)


def quiet(line: str) -> None:
    """No progress."""


@pytest.mark.slow
def test_quick_mode_runs_every_group(tmp_path: Path):
    numbers = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--quick", "--json", str(numbers)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = Results(json.loads(numbers.read_text(encoding="utf-8")))
    measured = set(results.timings) | set(results.data["shares"])
    assert measured == set(SECONDS) - {"learner compiled"}
    for name in UPDATES:
        group = f"update cube-double {name}"
        assert results.timings[group].wall.keys() == {"plain", "eager", "ceiling"}
        ratio = results.ratio(group, "ceiling", "eager")
        assert ratio is not None and 0 < ratio.median < 1, name
        assert sum(results.data["work"][group].values()) == flops.total(
            flops.update(QUICK, *UPDATES[name])
        )
    for group in ("loop best-of-32", "loop one-sample"):
        shares = results.data["shares"][group]
        for share, collect, sync, rest in zip(
            *(shares[n] for n in ("share", "collect", "sync", "rest")), strict=True
        ):
            assert share + collect + sync + rest == pytest.approx(1)
            assert min(share, collect, sync, rest) > 0
    assert all(0 < share < 1 for share in results.data["shares"]["learner eager"]["share"])
    runner = results.ratio("runner", "runner", "bare")
    assert runner is not None and runner.median > 1
    for text in ("## targets", "tiny sizes", "not measured in quick mode", str(numbers)):
        assert text in done.stdout


@pytest.mark.parametrize("name", UPDATES)
def test_our_loop_trains_what_the_update_is_about(name: str, ceiling: Ceiling):
    loop = ours.OurLoop(QUICK, *UPDATES[name])
    before = {k: v.detach().clone() for k, v in loop.module.state_dict().items()}
    batch = ours.to_windows(groups.random_batch(QUICK))
    assert torch.isfinite(loop.update(batch))
    changed = {
        k.split(".")[0]
        for k, v in loop.module.state_dict().items()
        if not torch.equal(v, before[k])
    }
    assert changed == {"actor", "critics", "target_critics"}
    cells = groups.update_cells(QUICK, name, ceiling, compiled=False, jax_too=False)
    assert list(cells) == ["plain", "eager", "ceiling"]
    for cell in cells.values():
        cell()


def test_one_sample_and_best_of_32_are_what_the_names_say():
    for name, (method, online, candidates) in UPDATES.items():
        loop = ours.OurLoop(QUICK, method, online, candidates)
        target = loop.context.settings.target_selector
        kind = "euler" if method == "QC" else "sample" if candidates == 1 else "best_of_n"
        assert target.kind == kind, name
        assert kind == "sample" or target.num_candidates == candidates
        assert loop.context.online == online and not loop.context.compiled


@pytest.mark.parametrize("num_obs", [1, 3])
def test_decisions_are_of_every_selector(num_obs: int):
    cells = groups.decision_cells(QUICK, num_obs)
    assert list(cells) == [*SELECTORS, *(f"plain {kind}" for kind in SELECTORS)]
    for kind in SELECTORS:
        result = cells[kind]()
        assert result.actions.shape == (num_obs, QUICK.action_size)
        evaluations = {"sample": 1, "best_of_n": 32, "qgbs": 20, "euler": 320}
        assert result.nfe == evaluations[kind]
        chosen = cells[f"plain {kind}"]()
        chosen = chosen if kind == "sample" else chosen[0]
        assert chosen.shape == (num_obs, QUICK.action_size)


def test_weights_are_read_once_for_a_sample():
    module = ours.make_module(ours.make_config(QUICK), QUICK)
    kernels = sum(layer.weight.numel() for layer in module.actor.linears)
    work = groups.decision_work(QUICK, 1)
    assert work["sample"]["bytes"] == 4 * kernels
    assert work["sample"]["flops"] == 2 * kernels
    assert work["euler"]["bytes"] > 5 * work["sample"]["bytes"]


def test_no_figure_of_compiled_code_where_compiling_failed(monkeypatch, ceiling: Ceiling):
    suite = Suite(Options(rounds=1, only="nothing"), quiet)
    cells = {"rllib_fmq": lambda: None, "eager": lambda: None}
    suite._interleave("replay", dict(cells))
    assert suite.results["timings"]["replay"]["wall"].keys() == {"rllib_fmq", "eager"}
    monkeypatch.setattr(compilation, "_failed", True)
    suite._interleave("replay", dict(cells))
    assert suite.results["timings"]["replay"]["wall"].keys() == {"eager"}
    assert "compiling failed" in suite.results["notes"]["compiled"]


def test_a_group_that_fails_costs_no_other(monkeypatch):
    def broken(rows: int) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(groups, "replay_cells", broken)
    suite = Suite(Options(rounds=1, only="replay|decision cube-double 1$", quick=True), quiet)
    results = suite.run()
    assert suite.failed == ["replay"]
    assert "no memory left" in results["notes"]["replay"]
    assert set(results["timings"]) == {"decision cube-double 1"}


def test_jax_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(groups, "has_jax", lambda: False)
    suite = Suite(Options(), quiet)
    assert not suite.jax and suite.results["notes"]["jax"] == "not installed"


def test_only_is_a_pattern_over_groups():
    assert Suite(Options(), quiet).names() == list(SECONDS)
    assert Suite(Options(only="replay|runner"), quiet).names() == ["replay", "runner"]


class Worker:
    """Something with a method that takes one tick, or calls another that does."""

    def __init__(self) -> None:
        self.now = 0.0

    def short(self) -> float:
        self.now += 1.0
        return self.now

    def long(self) -> float:
        self.now += 2.0
        return self.short()


def test_accumulator_counts_outermost_calls_and_leaves_no_trace():
    worker = Worker()
    parts = Accumulator(lambda: worker.now)
    with parts.around("short", worker, "short"), parts.around("long", worker, "long"):
        assert worker.short() == 1.0
        assert worker.long() == 4.0
    worker.long()
    assert parts.seconds == {"short": 1.0, "long": 3.0}
    assert parts.total == 4.0
    assert "short" not in vars(worker) and "long" not in vars(worker)
    with parts.around("short", worker, "short"):
        parts.reset()
        worker.short()
    assert parts.seconds == {"short": 1.0, "long": 0.0}
