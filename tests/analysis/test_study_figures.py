"""What the figures of a study show, against numbers computed by hand."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.analysis.figures.ablations import distillation_ablation, settings_ablation
from rllib_fmq.analysis.figures.catalogue import FIGURES
from rllib_fmq.analysis.figures.learning_curves import aggregate_iqm_curves, learning_curves
from rllib_fmq.analysis.figures.scores import aggregate_scores, improvement
from rllib_fmq.analysis.figures.search import qgbs_ablation
from rllib_fmq.analysis.figures.speedups import speedup
from rllib_fmq.analysis.figures.style import look, save
from rllib_fmq.analysis.figures.trust_region import implied_uncertainty, trust_region
from rllib_fmq.analysis.study_data import LABELS, StudyData, study_data
from tests.analysis.study_frames import (
    CAN,
    CUBE,
    MAZE,
    StudyBuilder,
    best_of,
    configs,
    small_study,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra rllib-fmq[plots]"
)
SETTINGS = {"eta=0.3": -0.1, "eta=3.0": -0.2, "distillation=lsd": 0.02, "distillation=psd": -0.04}


@pytest.fixture(scope="module")
def data() -> StudyData:
    """Three tasks, three methods, three seeds, all settings."""
    return study_data(*small_study(settings=SETTINGS))


@pytest.fixture(scope="module")
def one_run() -> StudyData:
    """One task and one seed: no interval has a width, every number is its run's."""
    return study_data(*small_study(tasks=[CUBE], seeds=[0], settings={}))


def of_method(axes: Any, method: str) -> Any:
    """The line that bears a method's name."""
    (line,) = [line for line in axes.lines if line.get_label() == method]
    return line


def band_at(axes: Any, method: str, x: float) -> tuple[float, float]:
    """Lower and upper end of a method's shaded area."""
    colour = look(method).colour
    (area,) = [c for c in axes.collections if _hex(c.get_facecolor()[0]) == colour]
    vertices = area.get_paths()[0].vertices
    heights = vertices[np.isclose(vertices[:, 0], x), 1]
    return float(heights.min()), float(heights.max())


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in colour[:3])


def legend_names(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_learning_curves_hold_the_mean_over_seeds(data: StudyData) -> None:
    figure = learning_curves(data)
    cube, maze, can = figure.axes
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["cube-single-task2", "pointmaze-medium-task1", "can"]
    assert legend_names(figure) == ["QC", "MVP", "FMQ"]
    line = of_method(cube, "FMQ")
    # Offline updates up to 1000, then environment steps: final 0.70, 0.72, 0.74, half of the way
    # from the offline policy's 0.2 at step 250, all of it from step 500 on.
    assert line.get_xdata().tolist() == [500, 1000, 1250, 1500, 1750, 2000]
    assert line.get_ydata() == pytest.approx([0.1, 0.2, 0.46, 0.72, 0.72, 0.72])
    assert of_method(can, "MVP").get_ydata()[-1] == pytest.approx(0.4 - 0.2 + 0.02)
    low, high = band_at(cube, "FMQ", 2000)
    # Of 27 equally likely draws one has only the lowest seed and one only the highest.
    assert (low, high) == pytest.approx((0.70, 0.74), abs=1e-9)
    assert band_at(cube, "FMQ", 1000) == pytest.approx((0.2, 0.2))
    assert maze.get_ylim() == (0.0, 1.0)


def test_the_switch_is_marked_and_each_phase_has_its_own_numbers(data: StudyData) -> None:
    axes = learning_curves(data).axes[0]
    (switch,) = [line for line in axes.lines if list(line.get_xdata()) == [1000, 1000]]
    assert switch.get_linestyle() == "--"
    assert axes.get_xticks().tolist() == [0, 1000, 1500, 2000]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["0", "1k | 0", "500", "1k"]
    # The scale is piecewise linear and reaches both ends of the panel.
    ends = axes.transData.transform([(0, 0), (1000, 0), (2000, 0)])[:, 0]
    frame = axes.get_window_extent()
    assert ends == pytest.approx([frame.x0, frame.x0 + 0.42 * frame.width, frame.x1])


def test_aggregate_curves_pool_tasks_and_seeds(data: StudyData) -> None:
    axes = aggregate_iqm_curves(data).axes[0]
    line = of_method(axes, "FMQ")
    assert line.get_xdata() == pytest.approx([0.5, 1.0, 1.25, 1.5, 1.75, 2.0])
    # Finals 0.70 0.72 0.74, 0.60 0.62 0.64, 0.50 0.52 0.54: without the two lowest and the two
    # highest of nine, the mean of 0.54, 0.60, 0.62, 0.64, 0.70.
    assert line.get_ydata()[-1] == pytest.approx(0.62)


def test_aggregate_curves_leave_out_tasks_that_a_method_lacks() -> None:
    frame, info = small_study(settings={})
    frame = frame[~((frame["task"] == CAN) & (frame["method"] == "MVP"))]
    axes = aggregate_iqm_curves(study_data(frame, info)).axes[0]
    # Six runs of two tasks: 0.62, 0.64, 0.70, 0.72 remain.
    assert of_method(axes, "FMQ").get_ydata()[-1] == pytest.approx(0.67)


def test_no_aggregate_curve_without_common_points() -> None:
    def curves(second: int) -> Any:
        builder = StudyBuilder()
        for seed, step in enumerate((250, second)):
            online = [(step, 0.3), (1000, 0.5)]
            builder.trial(CUBE, "FMQ", seed, online=online, finals=[best_of(32, 0.5)])
        return aggregate_iqm_curves(study_data(builder.frame(), {}))

    assert of_method(curves(250).axes[0], "FMQ").get_xdata() == pytest.approx([1.25, 2.0])
    assert curves(260) is None


def test_aggregate_scores_show_values_before_and_after(data: StudyData) -> None:
    axes = aggregate_scores(data).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()][::-1]
    offline = [f"{method}, offline only" for method in ("QC", "MVP", "FMQ")]
    assert names == [*LABELS, *offline]
    shown = {
        names[::-1][round(line.get_ydata()[0])]: line.get_xdata()[0]
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert shown["FMQ"] == pytest.approx(0.62)
    assert shown["FMQ + QGBS"] == pytest.approx(0.67)
    # Offline: 0.20, 0.21, 0.22 on each of three tasks; middle five of nine.
    assert shown["FMQ, offline only"] == pytest.approx(0.21)
    assert any(text.get_text().startswith("0.62 [") for text in axes.texts)


def test_aggregate_scores_are_of_the_tasks_that_all_rows_have() -> None:
    frame, info = small_study(settings={}, search=())
    frame = frame[~((frame["task"] == CAN) & (frame["method"] == "MVP"))]
    axes = aggregate_scores(study_data(frame, info)).axes[0]
    # FMQ without can: 0.60, 0.62, 0.64, 0.70, 0.72, 0.74 without the lowest and the highest.
    assert any(text.get_text().startswith("0.67 [") for text in axes.texts)
    assert axes.get_title(loc="left") == "without tasks that a row has no results on: can"
    whole = aggregate_scores(study_data(*small_study(settings={}))).axes[0]
    assert whole.get_title(loc="left") == ""


def test_own_methods_have_looks_of_their_own() -> None:
    builder = StudyBuilder()
    for method in ("Mine", "Other", "Third"):
        builder.trial(CUBE, method, 0, online=[(9, 0.5)], finals=[best_of(32, 0.5)])
    data = study_data(builder.frame(), {})
    axes = aggregate_scores(data).axes[0]
    colours = [line.get_color() for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(colours) == len(set(colours)) == 3
    (curves,) = learning_curves(data).axes
    assert of_method(curves, "Other").get_color() == colours[1]


def test_no_curve_and_no_name_of_a_method_without_common_points() -> None:
    builder = StudyBuilder()
    for method, steps in {"FMQ": (250, 250), "MVP": (250, 260)}.items():
        for seed, step in enumerate(steps):
            builder.trial(CUBE, method, seed, online=[(step, 0.5)], finals=[best_of(32, 0.5)])
    assert legend_names(learning_curves(study_data(builder.frame(), {}))) == ["FMQ"]


def test_probability_of_improvement_by_hand() -> None:
    builder = StudyBuilder()
    for method, scores in {"FMQ": (0.5, 0.7), "MVP": (0.5, 0.6)}.items():
        for seed, score in enumerate(scores):
            builder.trial(CUBE, method, seed, online=[(500, score)], finals=[best_of(32, score)])
    axes = improvement(study_data(builder.frame(), {})).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["FMQ over MVP"]
    (point,) = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert point == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in axes.lines)


def test_speedup_dots_and_means(one_run: StudyData) -> None:
    figure = speedup(one_run)
    online, full = figure.axes
    # The target is MVP's 0.4. FMQ is at 0.45 after 250 steps; MVP climbs 0.05 in 250 steps from
    # 0.2 and meets 0.30, 0.34, 0.38, 0.40 at steps 500, 750, 1000, 1000.
    dots, diamonds = [], []
    for line in online.lines:
        if line.get_marker() == "D":
            diamonds += list(line.get_ydata())
        elif line.get_marker() == "o":
            dots = list(line.get_ydata())
    assert dots == pytest.approx([2, 3, 4, 4])
    assert diamonds == pytest.approx([2, 3, 4, 4])
    assert online.get_yscale() == "log"
    assert any(list(line.get_ydata()) == [1.0, 1.0] for line in online.lines)
    (both,) = [list(line.get_ydata()) for line in full.lines if line.get_marker() == "o"]
    assert both == pytest.approx([1500 / 1250, 1750 / 1250, 2000 / 1250, 2000 / 1250])
    assert "cube-single-task2" in legend_names(figure)


def test_trust_region_shows_displacement_radius_and_uncertainty(data: StudyData) -> None:
    figure = trust_region(data, configs(data.frame))
    left, right = figure.axes[0], figure.axes[-3]
    displacement, radius = left.lines
    assert displacement.get_xdata().tolist() == [250, 500, 750, 1000]
    assert displacement.get_ydata() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert radius.get_ydata() == pytest.approx([0.8] * 4)
    assert displacement.get_linestyle() == "-" and radius.get_linestyle() == "--"
    assert right.lines[0].get_ydata() == pytest.approx([(1 / 0.8 - 1) / 0.3] * 4)
    assert len(legend_names(figure)) == 3


@pytest.mark.parametrize("known", [{"eta": 1.0, "beta": 0.0}, {"eta": 1.0}, {}])
def test_no_uncertainty_without_beta(data: StudyData, known: dict[str, float]) -> None:
    figure = trust_region(data, dict.fromkeys(data.frame["config_id"], known))
    assert len(figure.axes) == 3  # none has a second axis
    assert len(legend_names(figure)) == 2


def test_implied_uncertainty_undoes_equation_13() -> None:
    sigma = np.array([0.0, 0.5, 2.0])
    eta_eff = 2.0 / (1.0 + 0.3 * sigma)
    assert implied_uncertainty(eta_eff, eta=2.0, beta=0.3) == pytest.approx(sigma)


def test_the_radius_may_have_one_as_its_numerator(data: StudyData) -> None:
    known = {"eta": 3.0, "beta": 0.3, "radius_numerator": "one"}
    figure = trust_region(data, dict.fromkeys(data.frame["config_id"], known))
    assert figure.axes[-3].lines[0].get_ydata() == pytest.approx([(1 / 0.8 - 1) / 0.3] * 4)


def test_long_curves_are_thinned_at_steps_that_all_seeds_have() -> None:
    builder = StudyBuilder()
    for seed in (0, 1):
        # 900 common steps, and before them some of seed 1 alone.
        steps = [*([1, 2, 3] if seed else []), *range(10, 910)]
        training = [{"env_step": s, "displacement": s / 10, "eta_eff": 0.5} for s in steps]
        finals = [best_of(32, 0.5)]
        builder.trial(CUBE, "FMQ", seed, online=[(910, 0.5)], training=training, finals=finals)
    line = trust_region(study_data(builder.frame(), {}), {}).axes[0].lines[0]
    assert line.get_xdata().tolist() == list(range(10, 910, 4))


def test_qgbs_points_lie_at_their_costs_within_the_axes(data: StudyData) -> None:
    figure = qgbs_ablation(data)
    evaluations, latency = figure.axes
    points = {
        text.get_text(): (text.xy[0], line.get_ydata()[0], line.get_marker())
        for text, line in zip(evaluations.texts, _single(evaluations), strict=True)
    }
    assert set(points) == {"best of 32", "K=1 {4, 4}", "K=1 {2, 8}"}
    assert points["best of 32"] == (32.0, pytest.approx(0.62), "*")
    assert points["K=1 {4, 4}"] == (20.0, pytest.approx(0.67), "D")
    assert points["K=1 {2, 8}"] == (24.0, pytest.approx(0.63), "D")
    assert sorted(text.xy[0] for text in latency.texts) == pytest.approx([20 / 32, 24 / 32, 1.0])
    for axes in (evaluations, latency):
        left, right = axes.get_xlim()
        bottom, top = axes.get_ylim()
        assert all(left < line.get_xdata()[0] < right for line in _single(axes))
        assert all(bottom < line.get_ydata()[0] < top for line in _single(axes))


def _single(axes: Any) -> list[Any]:
    return [line for line in axes.lines if len(line.get_xdata()) == 1]


def test_distillation_losses_with_the_default_as_esd(data: StudyData) -> None:
    axes = distillation_ablation(data).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["ESD\n(default)", "PSD", "LSD"]
    assert main_line(axes) == pytest.approx([0.62, 0.58, 0.64])
    assert {line.get_linestyle() for line in axes.lines if line.get_marker() == "o"} == {"None"}
    # A thin line for each task's mean.
    thin = [line.get_ydata().tolist() for line in axes.lines if line.get_linewidth() < 1]
    assert sorted(means[0] for means in thin) == pytest.approx([0.52, 0.62, 0.72])


def test_settings_in_the_order_of_their_values(data: StudyData) -> None:
    figure = settings_ablation(data, configs(data.frame))
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.3", "1\n(default)", "3"]
    assert main_line(axes) == pytest.approx([0.52, 0.62, 0.42])
    assert {line.get_linestyle() for line in axes.lines if line.get_marker() == "o"} == {"-"}


def test_settings_compare_equal_tasks_and_seeds_only(data: StudyData) -> None:
    frame = data.frame
    varied = frame["setting"].isin(["eta=0.3", "eta=3.0"])
    lost = varied & ((frame["task"] != MAZE) | (frame["seed"] == 2))
    (axes,) = settings_ablation(study_data(frame[~lost], data.info), {}).axes
    # The default's value is unknown, so it stands in front; two seeds of one task are left.
    assert [t.get_text() for t in axes.get_xticklabels()] == ["default", "0.3", "3"]
    assert main_line(axes) == pytest.approx([0.61, 0.51, 0.41])


def test_a_value_with_few_runs_does_not_take_them_from_the_others(data: StudyData) -> None:
    frame = data.frame
    for lost in (
        (frame["setting"] == "eta=3.0") & ((frame["task"] != CUBE) | (frame["seed"] != 0)),
        frame["setting"] == "eta=3.0",
    ):
        (axes,) = settings_ablation(study_data(frame[~lost], data.info), {}).axes
        assert [t.get_text() for t in axes.get_xticklabels()] == ["default", "0.3"]
        assert main_line(axes) == pytest.approx([0.62, 0.52])


def main_line(axes: Any) -> list[float]:
    (line,) = [line for line in axes.lines if line.get_linewidth() > 1 and line.get_marker() == "o"]
    return list(line.get_ydata())


def test_every_figure_is_absent_without_its_data() -> None:
    builder = StudyBuilder()
    builder.trial(CUBE, "FMQ/MVP", 0, offline=[(500, 0.1)], finals=[best_of(32, 0.2)])
    data = study_data(builder.frame(), {})
    assert {spec.key: spec.draw(data, {}) for spec in FIGURES} == dict.fromkeys(
        spec.key for spec in FIGURES
    )


def test_methods_differ_in_more_than_colour() -> None:
    looks = [look(label) for label in LABELS]
    for seen in ("colour", "line", "marker"):
        assert len({str(getattr(x, seen)) for x in looks}) == len(LABELS)
    # Other methods get looks of their own, in the order of the figure.
    names = ["PPO", "FMQ", "SAC"]
    others = {look("PPO", names), look("SAC", names)}
    assert len(others) == 2 and not others & set(looks)


def test_saving_twice_gives_the_same_bytes(one_run: StudyData, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        written = save(learning_curves(one_run), tmp_path / folder, "curves")
        assert [path.name for path in written] == ["curves.png", "curves.svg"]
    for name in ("curves.png", "curves.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / "curves.svg").read_text()
    assert not re.search(r"<dc:date>", svg)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["curves.png", "curves.svg"]


def test_a_readers_own_settings_change_nothing(one_run: StudyData, tmp_path: Path) -> None:
    import matplotlib

    save(aggregate_scores(one_run), tmp_path / "a", "scores")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "x"}):
        save(aggregate_scores(one_run), tmp_path / "b", "scores")
    assert (tmp_path / "a/scores.svg").read_bytes() == (tmp_path / "b/scores.svg").read_bytes()
