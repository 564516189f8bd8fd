"""Which runs several variants are compared on."""

from __future__ import annotations

import pytest

from rllib_fmq.analysis.common_runs import common_runs
from rllib_fmq.analysis.study_data import TaskScores


def scores(**seeds: range) -> TaskScores:
    """Of tasks a, b, ...: the seed itself."""
    return {task: {seed: float(seed) for seed in numbers} for task, numbers in seeds.items()}


def test_scores_of_the_common_runs() -> None:
    found = common_runs({"x": scores(a=range(3), b=range(2)), "y": scores(a=range(1, 4))})
    assert found.scores == {key: {"a": {1: 1.0, 2: 2.0}} for key in "xy"}
    assert found.runs == {("a", 1), ("a", 2)} and found.unused == {"x": 3, "y": 1}
    assert found.notes() == [
        "Only runs (task and seed) that all have are counted, 2 each; further ones: x: 3, y: 1."
    ]
    assert common_runs({"x": scores(a=range(3)), "y": scores(a=range(3))}).notes() == []


@pytest.mark.parametrize(
    ("sizes", "kept", "runs"),
    [
        # Variants x runs: 2 x 5 and not 3 x 1, nor 4 x 1.
        ({"default": 5, "one": 1, "five": 5}, ["default", "five"], 5),
        ({"default": 5, "one": 1, "five": 5, "other": 1}, ["default", "five"], 5),
        # 8 x 5 and not 2 x 14: a narrower ablation by design stays.
        ({"default": 14, "wide": 14} | {str(i): 5 for i in range(6)}, None, 5),
        # Equal products: more variants.
        ({"default": 6, "six": 3, "four": 2}, None, 2),
        # Two that are both short do not keep each other.
        ({"default": 9, "nine": 9, "p": 2, "q": 2, "none": 0}, ["default", "nine"], 9),
    ],
)
def test_a_variant_with_few_runs_is_left_out(
    sizes: dict[str, int], kept: list[str] | None, runs: int
) -> None:
    found = common_runs({name: scores(a=range(size)) for name, size in sizes.items()}, "default")
    assert list(found.scores) == (kept or list(sizes)) and found.num_runs == runs
    left = [name for name, size in sizes.items() if size and name not in found.scores]
    assert list(found.dropped) == left and len(found.dropped_words()) == len(left)


def test_variants_without_a_common_run() -> None:
    apart = {"default": scores(a=range(2)), "x": scores(b=range(2))}
    found = common_runs(apart, "default")
    assert not found.scores
    assert found.dropped_words() == ["default, x: no two have a task and seed in common."]
    # The one that shares nothing does not empty the others.
    both = common_runs(apart | {"y": scores(a=range(2))}, "default")
    assert list(both.scores) == ["default", "y"] and both.dropped == {"x": 0}
    assert common_runs({"x": scores(a=range(2))}).dropped_words() == []
    assert not common_runs({}).scores
