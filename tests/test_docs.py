"""Do the documents say what the code does?"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_fmq import FMQConfig, MVPConfig, QCConfig, QGBSConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.tasks.catalog import paper_tasks
from tests.problems import TWO_MODES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
METHODS = {"FMQ": FMQConfig, "QGBS": QGBSConfig, "MVP": MVPConfig, "QC": QCConfig}
TASK = "cube-single-play-singletask-task2-v0"
# Not a setting: specs of RLlib's multi-agent part, made anew for each config.
NOT_SETTINGS = {"policies", "algo_class"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sections(document: str, level: int) -> dict[str, str]:
    """Headings of a level, each with the text up to the next heading of that level or above."""
    parts = re.split(rf"^(#{{1,{level}}}) (.*)$", document, flags=re.MULTILINE)[1:]
    found = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {title: body for marks, title, body in found if len(marks) == level}


def table_rows(document: str) -> Iterator[list[str]]:
    """Cells of every row whose first cell is code."""
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) > 1:
            yield cells


def code(cell: str) -> str:
    return cell.strip("`")


def default(config: AlgorithmConfig, key: str) -> Any:
    value = getattr(config, key)
    return value if not callable(value) else value.__name__


class TestConfig:
    """docs/CONFIG.md"""

    @staticmethod
    def documented() -> dict[str, str]:
        own = text(DOCS / "CONFIG.md").split("## What the methods change")[0]
        rows = [(code(cells[0]), code(cells[1])) for cells in table_rows(own)]
        assert len(dict(rows)) == len(rows), "a key stands in two tables"
        return dict(rows)

    @staticmethod
    def differing(config: AlgorithmConfig, base: AlgorithmConfig) -> set[str]:
        """Keys that ``base`` does not have or has another default for."""
        ours, theirs = vars(config), vars(base)
        return {
            # The property hides a private attribute.
            "train_batch_size_per_learner" if key == "_train_batch_size_per_learner" else key
            for key, value in ours.items()
            if key not in theirs or theirs[key] != value
        } - NOT_SETTINGS

    def test_every_key_is_documented(self) -> None:
        assert set(self.documented()) == self.differing(FlowMapConfig(), AlgorithmConfig())

    def test_defaults_are_those_of_the_code(self) -> None:
        config = FlowMapConfig()
        for key, written in self.documented().items():
            actual = default(config, key)
            expected = written if isinstance(actual, str) and written == actual else None
            assert actual == (expected or ast.literal_eval(written)), key

    def test_what_the_methods_change(self) -> None:
        rows = table_rows(text(DOCS / "CONFIG.md").split("## What the methods change")[1])
        assert not list(rows), "rows of this table begin with the method's name"
        changed: dict[str, dict[str, Any]] = {name: {} for name in METHODS}
        for line in text(DOCS / "CONFIG.md").splitlines():
            match = re.fullmatch(r"\| (\w+) \| `(\w+)` \| `(.+)` \|", line)
            if match and match[1] in METHODS:
                changed[match[1]][match[2]] = ast.literal_eval(match[3])
        for name, kind in METHODS.items():
            config = kind()
            expected = {
                key: default(config, key) for key in self.differing(config, FlowMapConfig())
            }
            assert changed[name] == expected, name


class TestDepartures:
    """docs/DEPARTURES.md"""

    @staticmethod
    def entries() -> dict[str, dict[str, str]]:
        found = {}
        for title, body in sections(text(DOCS / "DEPARTURES.md"), level=3).items():
            fields = re.split(r"^- (\w+): ", body, flags=re.MULTILINE)[1:]
            number = title.split(".")[0]
            found[number] = dict(zip(fields[::2], fields[1::2], strict=True))
        return found

    def test_numbered_and_complete(self) -> None:
        entries = self.entries()
        assert list(entries) == [f"D{n}" for n in range(1, len(entries) + 1)]
        for number, fields in entries.items():
            assert list(fields) == ["Paper", "Here", "Why", "Key"], number

    def test_cited_numbers_exist(self) -> None:
        entries = self.entries()
        folders = ("rllib_fmq", "examples", "tuned_examples")
        files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
        for path in [*files, *DOCS.glob("*.md")]:
            for number in re.findall(r"\bD\d+\b", text(path)):
                assert number in entries, f"{path.name} cites {number}"

    def test_configs_accept_what_restores_the_other_choice(self) -> None:
        checked = 0
        for number, fields in self.entries().items():
            for name in re.findall(r"`(\w+)`", fields["Key"]):
                assert hasattr(FlowMapConfig(), name), number
            for key, value in re.findall(r"`(\w+)=([^`]+)`", fields["Key"]):
                config = (MVPConfig if key.startswith("conditioning") else FMQConfig)()
                config.environment(TASK)
                assert hasattr(config, key), (number, key)
                setattr(config, key, ast.literal_eval(value))
                config.validate()
                checked += 1
        assert checked > 15


def flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


# What of a result is RLlib's and Tune's own (Ray 2.60).
RLLIBS_OWN = re.compile(
    r"(timers|config|perf|fault_tolerance|env_runner_group|info)/.*"
    r"|(num_training_step_calls_per_iteration|num_env_steps_sampled_lifetime.*|training_iteration"
    r"|trial_id|date|timestamp|pid|hostname|node_ip|time_\w+|iterations_since_restore)"
    r"|learners/__all_modules__/.*"
    r"|learners/default_policy/(num_(non_)?trainable_parameters|default_optimizer_learning_rate)"
    r"|evaluation/(num_|actor_manager_)\w+"
    r"|env_runners/(module_|agent_|episode_|num_|env_to_module_|module_to_env_|env_reset_"
    r"|env_step_|sample$|rlmodule_inference_timer|weights_seq_no|time_between_sampling).*"
)


class TestMetrics:
    """docs/METRICS.md"""

    def test_results_and_document_have_the_same_keys(
        self, ray_session: None, two_modes: Path
    ) -> None:
        found: dict[str, set[str]] = {}
        phases = ("offline", "online")
        for kind in (FMQConfig, MVPConfig):
            config = (
                kind()
                .environment(TWO_MODES)
                .offline_data(dataset=str(two_modes))
                .env_runners(rollout_fragment_length=5)
                .training(
                    horizon_length=1,
                    actor_hidden=(8,),
                    critic_hidden=(8,),
                    num_candidates=2,
                    diagonal_warmup_updates=2,
                    interval_anneal_end=4,
                )
                .phases(
                    offline_updates=10,
                    online_env_steps=10,
                    updates_per_iteration=10,
                    learning_starts=0,
                )
                .evaluation(evaluation_interval=1, evaluation_duration=1)
            )
            algo = config.build_algo()
            try:
                for phase in phases:
                    result = algo.train()
                    result.pop("config", None)
                    assert result["phase"] == phase
                    keys = {
                        key
                        for key, value in flat(result)
                        if not RLLIBS_OWN.fullmatch(key) and value == value  # not NaN
                    }
                    found[f"{config.algo_class.__name__} {phase}"] = keys
            finally:
                algo.stop()
        documented = {
            code(title) for title in sections(text(DOCS / "METRICS.md"), level=3) if "`" in title
        }
        assert set().union(*found.values()) == documented
        # What the document says of single keys.
        learner = "learners/default_policy/"
        assert f"{learner}diagonal_loss" not in found["FMQ online"]
        assert f"{learner}displacement" not in found["FMQ offline"] | found["MVP online"]
        assert f"{learner}imitation_q_mean" in found["MVP online"] - found["FMQ online"]
        assert "env_runners/success_rate" in found["FMQ online"] - found["FMQ offline"]


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(path)):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def documented_commands() -> Iterator[str]:
    files = [
        *documents(),
        *(ROOT / "examples").glob("*.py"),
        *(ROOT / "tuned_examples").rglob("*.py"),
    ]
    for path in files:
        for line in re.sub(r"\\+\n\s*", " ", text(path)).splitlines():
            match = re.fullmatch(r"\s*(?:\w+=\S+ )*(rllib [a-z][^`]*)", line)
            if match and not line.strip().endswith((".", ",", ":")):
                yield match[1].split("#")[0].strip()


@pytest.mark.parametrize("line", sorted(set(documented_commands())))
def test_commands_can_be_parsed(line: str) -> None:
    from typer.main import get_command

    from rllib_fmq.cli import app

    command: Any = get_command(app)
    parent, name, arguments = None, "rllib", shlex.split(line)[1:]
    while True:
        with command.make_context(name, arguments, parent=parent) as context:
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            if not hasattr(command, "resolve_command") or not rest:
                assert not rest, f"not understood: {rest}"
                return
            name, command, arguments = command.resolve_command(context, rest)
            parent = context


def test_python_in_the_readme_is_valid() -> None:
    blocks = re.findall(r"```python\n(.*?)```", text(ROOT / "README.md"), flags=re.DOTALL)
    for block in blocks:
        compile(block, "README.md", "exec")
    (example,) = (block for block in blocks if "build_algo" in block)
    assert len(example.strip().splitlines()) <= 15
    scope: dict[str, Any] = {}
    exec(example.split("algo = ")[0], scope)
    scope["config"].validate()
    assert "algo.train()" in example


def test_measured_table_has_every_task() -> None:
    document = text(DOCS / "TASKS.md")
    block = document.split("<!-- measured: begin -->")[1].split("<!-- measured: end -->")[0]
    assert [code(row[0]) for row in table_rows(block)] == [t.short_name for t in paper_tasks()]
