"""Each example runs, through its own command line, as a user would run it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from rllib_fmq.algorithms.config import FlowMapConfig

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
# Processes that import torch and Ray, one after the other, on a machine that may be busy.
pytestmark = pytest.mark.timeout(1_200)


def run_here(script: str, *arguments: str | Path) -> str:
    """Run an example in this process and the tests' own Ray, and return what it printed."""
    import ray

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(ray, "init", lambda *args, **settings: None)
        patch.setattr(ray, "shutdown", lambda: None)
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return printed.getvalue()


def run(script: str, *arguments: str | Path) -> str:
    """Run an example in a process of its own and return what it printed."""
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4_000:]
    return process.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and output of a quickstart, whose dataset and checkpoints other examples use."""
    pytest.importorskip("ogbench")
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, run("quickstart.py", "--smoke", "--out", folder)


@pytest.mark.slow
def test_quickstart(quickstart: tuple[Path, str]) -> None:
    folder, output = quickstart
    assert (folder / "cube-single-play-v0.npz").is_file()
    for phase in ("offline", "online"):
        assert (folder / phase / "learner_group").is_dir()
        assert f"{phase} " in output
    # One evaluation at the end of each phase.
    assert output.count("success") == 2


@pytest.mark.slow
def test_fmq_in_python(quickstart: tuple[Path, str], tmp_path: Path, ray_session: None) -> None:
    folder, _ = quickstart
    output = run_here(
        "fmq_in_python.py",
        folder / "offline",
        "--dataset",
        folder / "cube-single-play-v0.npz",
        "--smoke",
        "--out",
        tmp_path,
    )
    lines = output.splitlines()
    assert sum("displacement" in line for line in lines) == 10
    assert [line.split()[:2] for line in lines if " NFE " in line] == [
        ["before", "best_of_n"],
        ["before", "qgbs"],
        ["after", "best_of_n"],
        ["after", "qgbs"],
    ]
    assert lines[-1].startswith("episode of")
    assert (tmp_path / "fmq" / "learner_group").is_dir()


@pytest.mark.slow
def test_tune_eta_beta(quickstart: tuple[Path, str], tmp_path: Path, ray_session: None) -> None:
    folder, _ = quickstart
    output = run_here(
        "tune_eta_beta.py",
        folder / "offline",
        "--dataset",
        folder / "cube-single-play-v0.npz",
        "--smoke",
        "--out",
        tmp_path,
    )
    table = pd.read_csv(tmp_path / "trials.csv")
    assert len(table) == len(list(tmp_path.glob("search-*/*/result.json"))) == 3
    assert table["eta"].between(0.1, 3.0).all()
    assert table["beta"].between(0.0, 1.0).all()
    assert table["eta"].nunique() == 3
    # Nothing is learned in 40 steps: all are equal, and ASHA stops none.
    assert table["env_steps"].tolist() == [40] * 3
    assert not table["stopped_early"].any()
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    assert "stopped_early" in output


@pytest.mark.slow
def test_own_environment(tmp_path: Path, ray_session: None) -> None:
    output = run_here("own_environment.py", "--smoke", "--out", tmp_path)
    assert (tmp_path / "reach.npz").is_file()
    assert (tmp_path / "checkpoint" / "learner_group").is_dir()
    assert output.count("steps an episode") == 5


@pytest.mark.slow
def test_evaluate_all_selectors(quickstart: tuple[Path, str], ray_session: None) -> None:
    folder, _ = quickstart
    output = run_here("evaluate_all_selectors.py", folder / "online", "--episodes", "1")
    nfe = [line[18:23].strip() for line in output.splitlines()[2:]]
    assert nfe == ["1", "4", "32", "320", "4", "20", "36"]


@pytest.mark.slow
def test_values_of_searches(quickstart: tuple[Path, str], ray_session: None) -> None:
    folder, _ = quickstart
    dataset = folder / "cube-single-play-v0.npz"
    runs = (folder / "offline", folder / "online")
    output = run_here("values_of_searches.py", *runs, "--dataset", dataset, "--observations", "64")
    lines = output.splitlines()
    assert lines[0].startswith("mean over 2 policies, 64 observations")
    q = {line[:25].strip(): float(line[25:].split()[1]) for line in lines[2:11]}
    # More samples of the same policy cannot be worth less, and neither can more steps uphill.
    assert q["sample"] < q["best of 4"] < q["best of 16"] <= q["best of 32"]
    assert q["qgbs, no step (eta=0)"] < q["qgbs"]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", ["FMQ", "QGBS", "MVP", "QC"])
def test_full_scale_settings_are_the_papers(method: str) -> None:
    config = load(ROOT / "tuned_examples" / f"{method.lower()}_cube_single.py").config
    assert isinstance(config, FlowMapConfig)
    config.validate()
    assert config.algo_class.__name__ == method
    # Table 6.
    assert (config.lr, config.gamma, config.tau) == (3e-4, 0.99, 5e-3)
    assert config.train_batch_size_per_learner == 256
    assert config.offline_updates == config.online_env_steps == 1_000_000
    assert config.utd_ratio == 1.0
    assert config.replay_capacity == 2_000_000
    assert config.actor_hidden == config.critic_hidden == (512,) * 4
    assert (config.num_critics, config.time_embedding_dim, config.horizon_length) == (2, 64, 5)
    assert config.evaluation_interval * config.updates_per_iteration == 100_000
    assert config.evaluation_duration == 50
    # Table 7, and Table 5 for QGBS.
    selector = config.selector("evaluation")
    nfe = {"FMQ": 32, "QGBS": 4 * (1 + 1 * 4), "MVP": 32, "QC": 320}
    assert selector.nfe == nfe[method]
    # Appendix H.
    assert config.conditioning_axis == (method == "MVP")
    assert config.diagonal_warmup_updates == 5_000
