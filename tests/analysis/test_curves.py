"""What the curves show, and that they can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.analysis.panels import (
    LOSSES,
    OFFLINE,
    ONLINE,
    RETURN,
    SUCCESS,
    TRUST_REGION,
    choose_panels,
    curve,
    mean_curve,
)
from rllib_fmq.analysis.results import Run, read_runs

Write = Callable[..., Path]


def test_only_fresh_evaluations_on_each_side_of_the_switch(write_trial: Write) -> None:
    (run,) = read_runs([write_trial("FMQ_0")])
    evaluation, collected = SUCCESS.series
    x, y = curve(run, evaluation, OFFLINE)
    assert x.tolist() == [200, 400] and y == pytest.approx([0.2, 0.4])
    # Online it starts from the offline policy's value, at step 0.
    x, y = curve(run, evaluation, ONLINE)
    assert x.tolist() == [0, 100, 200, 300] and y == pytest.approx([0.4, 0.6, 0.8, 1.0])
    x, y = curve(run, collected, ONLINE)
    assert x.tolist() == [50, 100, 150, 200, 250, 300] and y[0] == pytest.approx(0.25)
    assert curve(run, collected, OFFLINE)[0].size == 0


def test_panels_follow_the_data(write_trial: Write) -> None:
    runs = read_runs([write_trial("FMQ_0", seed=0), write_trial("FMQ_1", seed=1)])
    assert choose_panels(runs[:1]) == [SUCCESS, TRUST_REGION, LOSSES]
    assert choose_panels(runs) == [SUCCESS, TRUST_REGION]


def test_rllibs_own_algorithms_have_return_over_steps() -> None:
    rows = tuple(
        {"num_env_steps_sampled_lifetime": 10.0 * i, "env_runners/episode_return_mean": float(i)}
        for i in range(1, 4)
    )
    run = Run(Path("PPO_x"), "PPO", "PPO", rows)
    assert choose_panels([run]) == [RETURN]
    x, y = curve(run, RETURN.series[1], ONLINE)
    assert x.tolist() == [10, 20, 30] and y.tolist() == [1, 2, 3]


def test_mean_where_all_have_data() -> None:
    first = (np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    second = (np.array([5.0, 20.0]), np.array([1.0, 1.0]))
    x, y = mean_curve([first, second])
    assert x.tolist() == [5, 10] and y == pytest.approx([0.75, 1.0])
    assert mean_curve([first, (np.empty(0), np.empty(0))])[0].size == 0


def test_draws_one_run_and_several(write_trial: Write, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from rllib_fmq.analysis.curves import draw, plot_curves

    trials = [write_trial(f"FMQ_{seed}", seed=seed) for seed in range(2)]
    trials.append(write_trial("QC_0", seed=0))
    figure = draw(read_runs(trials[:1]))
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert "gradient updates (offline)" in labels and "environment steps (online)" in labels
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["switch to online"]

    png = plot_curves(trials, tmp_path / "new" / "curves.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    svg = plot_curves([trials[0].parent], tmp_path / "curves.svg").read_text()
    assert svg.lstrip().startswith("<?xml") and "<svg" in svg
    assert sorted(p.name for p in png.parent.iterdir()) == ["curves.png"]


def test_refuses_other_formats(write_trial: Write, tmp_path: Path) -> None:
    from rllib_fmq.analysis.curves import plot_curves

    with pytest.raises(ValueError, match=r"must end in \.png"):
        plot_curves([write_trial("FMQ_0")], tmp_path / "curves.txt")
    assert not list(tmp_path.glob("curves*"))
