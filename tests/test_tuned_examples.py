"""Are the tuned examples what they say: tasks, settings, the paper's scores, commands?"""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.cli.configuration import from_file
from rllib_fmq.cli.options import TrainOptions
from rllib_fmq.tasks.catalog import find_task, paper_tasks
from rllib_fmq.tasks.paper import PAPER_SCORES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tuned_examples"
DOCUMENT = ROOT / "docs" / "TUNED_EXAMPLES.md"
# Columns of Table 1 that a file of each method states.
COLUMNS = {
    "FMQ": {"FMQ"},
    "QGBS": {"FMQ + QGBS"},
    "MVP": {"MVP", "MVP (reported)", "MVP + QGBS"},
    "QC": {"QC"},
}
PAPER = {
    FOLDER / "paper" / f"{method.lower()}_{short.replace('-', '_')}.py": (method, short)
    for short in PAPER_SCORES
    for method in COLUMNS
}
REDUCED = {
    "cube_double": "cube-double-play-singletask-task3-v0",
    "scene": "scene-play-singletask-task4-v0",
    "pointmaze": "pointmaze-medium-navigate-singletask-task1-v0",
    "antmaze": "antmaze-giant-navigate-singletask-task5-v0",
    "humanoidmaze": "humanoidmaze-medium-navigate-singletask-task3-v0",
    "robomimic_can": "can-mh",
}
FILES = [*PAPER, *(FOLDER / "reduced" / f"{name}.py" for name in REDUCED)]
SCORE = r"\d\.\d\d ± \d\.\d\d"
SECONDS_PER_STEP = {"robomimic_can": 0.10}  # with its update; robosuite takes 0.04 of it
# Specs of RLlib's multi-agent part, made anew for each config.
NOT_SETTINGS = {"policies"}
SLOWEST_UPDATE, SLOWEST_STEP = 0.05, 0.06


def each(paths: Any) -> Any:
    return pytest.mark.parametrize("path", list(paths), ids=lambda path: path.stem)


def load(path: Path, **options: Any) -> FlowMapConfig:
    """The config of a file, as ``rllib train file`` reads it."""
    config = from_file(path, TrainOptions(**options)).config
    assert isinstance(config, FlowMapConfig)
    return config


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def commands(text: str) -> list[str]:
    return re.findall(r"^    ((?:rllib|python) .*)$", text, flags=re.MULTILINE)


def stated(value: tuple[float, float]) -> str:
    return f"{value[0]:.2f} ± {value[1]:.2f}"


def changed(config: FlowMapConfig, base: FlowMapConfig) -> dict[str, Any]:
    """Public settings of a config that another one has not, or has with another value."""
    theirs = vars(base)
    return {
        key: value
        for key, value in vars(config).items()
        if not key.startswith("_") or key == "_train_batch_size_per_learner"
        if key not in NOT_SETTINGS and (key not in theirs or theirs[key] != value)
    }


@functools.cache
def command_line() -> Any:
    from typer.main import get_command

    from rllib_fmq.cli import app

    return get_command(app)


def parse(command: Any, name: str, arguments: list[str], parent: Any = None) -> None:
    """Fail with Click's own error where a command line is not understood."""
    with command.make_context(name, arguments, parent=parent) as context:
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if rest:
            found, subcommand, arguments = command.resolve_command(context, rest)
            parse(subcommand, found, arguments, context)


def test_every_task_and_method_has_a_file() -> None:
    assert set((FOLDER / "paper").glob("*.py")) == set(PAPER)
    assert len(PAPER) == 48
    assert {path.stem for path in (FOLDER / "reduced").glob("*.py")} == set(REDUCED)


@each(FILES)
def test_config_is_valid_and_takes_options(path: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "data.npz"
    config = load(path, seed=1, dataset=str(dataset))
    assert (config.seed, config.dataset) == (1, str(dataset))
    config.validate()
    # What Tune does with `param_space`.
    again = type(config)().update_from_dict(config.to_dict())
    again.validate()
    assert changed(again, config) == {}


@each(FILES)
def test_commands_are_understood_and_name_the_file(path: Path) -> None:
    lines = commands(docstring(path))
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "rllib":
            parse(command_line(), program, arguments)
        else:
            assert (ROOT / arguments[0]).is_file(), line
    (train,) = (line for line in lines if line.startswith("rllib train file "))
    assert ROOT / train.split()[3] == path
    (data,) = (line for line in lines if line.startswith("rllib data "))
    task, named = find_task(str(load(path).env)), data.split()[3]
    assert task is not None
    assert named == task.dataset or find_task(named) == task


@each(FILES)
def test_other_files_that_are_named_exist(path: Path) -> None:
    text = docstring(path)
    for name in re.findall(r"(?:tuned_examples|docs|examples)/[\w/]+\.\w+", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"``(\w+\.py)``", text):
        assert (path.parent / name).is_file(), name


@each(PAPER)
def test_expected_scores_are_the_papers(path: Path) -> None:
    method, short = PAPER[path]
    text = docstring(path)
    rows = dict(re.findall(rf"^    (\S.*\S)  +({SCORE})$", text, flags=re.MULTILINE))
    scores = PAPER_SCORES[short]
    assert rows == {column: stated(scores[column]) for column in COLUMNS[method] & set(scores)}
    assert len(re.findall(SCORE, text)) == len(rows)
    for claim in ("Table 1", "5 seeds of 50 episodes", "4 hours on an A100"):
        assert claim in " ".join(text.split())
    # Running text compares with FMQ's score alone.
    loose = {float(number) for number in re.findall(r"\b[01]\.\d\d\b", re.sub(SCORE, "", text))}
    assert loose <= {scores["FMQ"][0]}


@each(PAPER)
def test_settings_are_the_papers(path: Path) -> None:
    method, short = PAPER[path]
    config = load(path)
    task = find_task(short)
    assert task is not None
    assert (config.algo_class.__name__, config.env) == (method, task.name)
    # Table 6.
    assert (config.lr, config.gamma, config.tau) == (3e-4, 0.99, 5e-3)
    assert config.train_batch_size_per_learner == 256
    assert config.offline_updates == config.online_env_steps == 1_000_000
    assert (config.utd_ratio, config.replay_capacity) == (1.0, 2_000_000)
    assert config.actor_hidden == config.critic_hidden == (512,) * 4
    assert (config.num_critics, config.time_embedding_dim, config.horizon_length) == (2, 64, 5)
    assert config.evaluation_interval * config.updates_per_iteration == 100_000
    assert config.evaluation_duration == 50
    # Tables 5 and 7.
    kind, nfe = {
        "FMQ": ("best_of_n", 32),
        "QGBS": ("qgbs", 20),
        "MVP": ("best_of_n", 32),
        "QC": ("euler", 320),
    }[method]
    selector = config.selector("evaluation")
    assert (selector.kind, selector.nfe) == (kind, nfe)
    if method == "QGBS":
        search = (selector.search_iters, selector.beam_width, selector.branches)
        assert (*search, selector.eta, selector.snr) == (1, 4, 4, 0.3, 1.5)
    # Eq. 12 and 13, App. H, and D15 in docs/DEPARTURES.md.
    assert (config.eta, config.beta, config.learning_starts) == (1.0, 0.3, 5_000)
    assert (config.diagonal_warmup_updates, config.interval_anneal_end) == (5_000, 50_000)
    # Everything else is a default: files of a method differ in the task alone.
    expected = {"env": task.name, "seed": 0}
    if method == "MVP":
        expected["conditioning_axis"] = True
        assert (config.conditioning_start, config.conditioning_zero_prob) == (10_000, 0.5)
    assert changed(config, type(config)()) == expected


@each(FOLDER / "reduced" / f"{name}.py" for name in REDUCED)
def test_reduced_settings_fit_into_an_hour(path: Path) -> None:
    config = load(path)
    assert (config.algo_class.__name__, config.env) == ("FMQ", REDUCED[path.stem])
    step = SECONDS_PER_STEP.get(path.stem, SLOWEST_STEP)
    training = config.offline_updates * SLOWEST_UPDATE + config.online_env_steps * step
    assert training < 45 * 60  # a quarter of an hour is left for evaluations
    assert config.evaluation_parallel_to_training
    assert config.interval_anneal_end <= config.offline_updates / 2
    # The sizes whose times are assumed above are those of the measured example.
    measured = load(FOLDER / "cube_single_reduced.py")
    for key in ("actor_hidden", "critic_hidden", "target_num_candidates", "gelu"):
        assert getattr(config, key) == getattr(measured, key), key
    assert config.train_batch_size_per_learner == measured.train_batch_size_per_learner


@each(FOLDER / "reduced" / f"{name}.py" for name in REDUCED)
def test_reduced_files_say_their_scale_time_and_outcome(path: Path) -> None:
    config, text = load(path), " ".join(docstring(path).split())
    assert f"{config.offline_updates:,} offline updates" in text
    assert f"{config.online_env_steps:,} environment steps" in text
    per_phase = config.evaluation_interval * config.updates_per_iteration
    evaluations = (config.offline_updates + config.online_env_steps) // per_phase
    assert f"{evaluations} evaluations of {config.evaluation_duration} episodes" in text
    (low, high) = re.findall(r"Plan (\d+) to (\d+) minutes", text)[0]
    assert int(low) < int(high) < 60
    step = SECONDS_PER_STEP.get(path.stem, SLOWEST_STEP)
    training = config.offline_updates * SLOWEST_UPDATE + config.online_env_steps * step
    assert int(high) * 60 > training
    # A score needs its source: a command, seeds and episodes; until then there is none.
    assert "Expected success rate: " in text


def table(document: str, head: str) -> dict[str, Mapping[str, str]]:
    """Rows of the Markdown table under a header line, by their first cell."""
    lines = iter(document.splitlines())
    names = next(cells(line) for line in lines if line.startswith(head))
    next(lines)
    rows: dict[str, Mapping[str, str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        row = dict(zip(names, cells(line), strict=True))
        rows[row[names[0]].strip("`")] = row
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_document_lists_the_papers_scores_and_files() -> None:
    rows = table(DOCUMENT.read_text(encoding="utf-8"), "| task | FMQ")
    assert list(rows) == [task.short_name for task in paper_tasks()]
    linked = {"FMQ": "FMQ", "FMQ + QGBS": "QGBS", "MVP": "MVP", "QC": "QC"}
    for short, row in rows.items():
        for column, cell in list(row.items())[1:]:
            score = PAPER_SCORES[short].get(column)
            if column in linked:
                name = f"{linked[column].lower()}_{short.replace('-', '_')}.py"
                assert score is not None
                assert cell == f"[{stated(score)}](../tuned_examples/paper/{name})"
            else:
                assert cell == ("-" if score is None else stated(score))


def test_document_lists_the_reduced_files_and_their_times() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    rows = table(document, "| family")
    assert len(rows) == len(REDUCED) + 1
    for name, task in REDUCED.items():
        (row,) = (row for row in rows.values() if f"reduced/{name}.py" in row["file"])
        assert row["task"].strip("`") == task
        (low, high) = re.findall(r"Plan (\d+) to (\d+)", docstring(FOLDER / f"reduced/{name}.py"))[
            0
        ]
        assert row["minutes"] == f"{low} to {high}"
