"""Real runs: train, look at the results, evaluate, go on, fail."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.flow.selection import SelectorSettings
from tests.cli.conftest import PENDULUM, TINY
from tests.command import Command, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]
Run = tuple[Path, Outcome]


def only_trial(storage: Path, name: str = "run") -> Path:
    (trial,) = (path for path in (storage / name).iterdir() if path.is_dir())
    return trial


def results_of(trial: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def test_training_says_what_it_does(pendulum_run: Run) -> None:
    storage, outcome = pendulum_run
    assert not outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("data: ") and lines[0].endswith("pendulum.npz, 800 transitions")
    assert lines[1] == f"results: {storage}/run"
    progress = [line for line in lines if line.startswith(("offline", "online"))]
    assert progress[0].startswith("offline  updates 20/40")
    assert "env steps 40/40" in progress[-1] and "updates 70" in progress[-1]
    assert "eval return" in progress[-1]  # Pendulum reports no success


def test_training_leaves_results_checkpoints_and_curves(pendulum_run: Run) -> None:
    trial = only_trial(pendulum_run[0])
    names = {path.name for path in trial.iterdir()}
    assert {"result.json", "progress.csv", "params.json", "checkpoint_000000"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "curves.png" in names
    last = results_of(trial)[-1]
    assert last["done"] and last["config"]["eta"] == 0.5 and last["config"]["seed"] == 3
    assert last["num_online_env_steps"] == 40


def test_a_missing_renderer_is_one_line(pendulum_run: Run) -> None:
    storage, outcome = pendulum_run
    said = [line for line in outcome.out.splitlines() if "video" in line]
    # Pendulum draws with pygame, which is nobody's dependency here.
    filmed = (only_trial(storage) / "rollout.mp4").exists()
    assert len(said) == 1 and said[0].startswith("video: " if filmed else "no video: ")
    assert "Traceback" not in said[0]


def test_evaluate_prints_a_table_and_writes_json(
    pendulum_run: Run, rllib: Command, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "report.json"
    outcome = rllib(
        *("evaluate", pendulum_run[0] / "run", "--selector", "qgbs", "--beam-width", "2"),
        *("--branches", "3", "--episodes", "2", "--seed", "5", "--output", output),
    )
    assert outcome.code == 0, outcome.err
    assert "qgbs (M=2, K=1, B=3, eta=0.3, snr=1.5), NFE 8" in outcome.out
    assert "FMQ on Pendulum-v1" in outcome.out and "2, seeds 5 to 6" in outcome.out
    report = json.loads(output.read_text())
    assert report["nfe"] == 8 and report["num_episodes"] == 2
    assert [o["seed"] for o in report["outcomes"]] == [5, 6]
    assert [o["length"] for o in report["outcomes"]] == [200, 200]
    assert "success_rate" not in report
    assert [path.name for path in output.parent.iterdir()] == ["report.json"]


def test_evaluate_default_is_the_runs_own_selector(pendulum_run: Run, rllib: Command) -> None:
    outcome = rllib("evaluate", pendulum_run[0] / "run", "--episodes", "1")
    assert outcome.code == 0, outcome.err
    assert "best_of_n (N=2), NFE 2" in outcome.out
    assert "seeds 2000000000 to 2000000000" in outcome.out


def test_evaluate_refuses_options_of_another_selector(pendulum_run: Run, rllib: Command) -> None:
    outcome = rllib(
        *("evaluate", pendulum_run[0] / "run", "--selector", "qgbs", "--num-candidates", "3")
    )
    assert outcome.code == 2
    assert "--num-candidates belongs to --selector best_of_n or euler" in outcome.err


def test_outcomes_do_not_depend_on_workers(pendulum_run: Run, ray_session: None) -> None:
    from rllib_fmq.rollout.checkpoints import evaluate_checkpoint

    seen = []
    selector = SelectorSettings(kind="sample")
    alone = evaluate_checkpoint(pendulum_run[0] / "run", selector, range(3))
    shared = evaluate_checkpoint(
        pendulum_run[0] / "run", selector, range(3), num_workers=2, on_episode=seen.append
    )
    assert [o.seed for o in shared] == [0, 1, 2] and len(seen) == 3
    assert [o.episode_return for o in shared] == pytest.approx(
        [o.episode_return for o in alone], rel=1e-6
    )


def test_policy_comes_without_dataset_or_algorithm(pendulum_run: Run) -> None:
    from rllib_fmq.rollout.checkpoints import find_checkpoint, load_policy

    checkpoint = find_checkpoint(pendulum_run[0] / "run")
    assert checkpoint == max(only_trial(pendulum_run[0]).glob("checkpoint_*"))
    module, record = load_policy(checkpoint)
    assert (record.algorithm, record.env, record.lambda_sd) == ("FMQ", PENDULUM, 1.0)
    assert module.horizon_length == 2 and not module.training


ACT_WITHOUT_RAY = """
import json, sys
sys.modules["ray"] = None
from rllib_fmq.serving import Policy

folder, observations = sys.argv[1], json.loads(sys.argv[2])
actions = {}
for selector, backend in json.loads(sys.argv[3]):
    policy = Policy(folder, selector, backend, seed=5)
    actions[selector] = [policy.act(obs).tolist() for obs in observations]
print(json.dumps(actions))
"""


def test_the_exported_policy_acts_without_ray_as_the_trained_module(
    pendulum_run: Run, rllib: Command, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    from ray.rllib.core.rl_module import RLModule

    from rllib_fmq.checkpointing.trust import MODULE
    from rllib_fmq.rollout.checkpoints import find_checkpoint
    from rllib_fmq.serving.export import module_plan
    from rllib_fmq.serving.policy import read_info

    folder = tmp_path / "policy"
    outcome = rllib("export", pendulum_run[0] / "run", "-o", folder)
    assert outcome.code == 0 and "(FMQ; sample, best_of_n, qgbs)" in outcome.out, outcome.err
    observations = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    cases = [("best_of_n", "torch"), ("qgbs", "onnx")]
    arguments = [str(folder), json.dumps(observations.tolist()), json.dumps(cases)]
    done = subprocess.run(
        [sys.executable, "-c", ACT_WITHOUT_RAY, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    module = RLModule.from_checkpoint(str(find_checkpoint(pendulum_run[0] / "run") / MODULE))
    for selector, _ in cases:
        info, rng = read_info(folder, selector), np.random.default_rng(5)
        settings = dataclasses.replace(module.evaluation_selector, kind=selector)
        chunks = []
        for obs in observations[::2]:  # the others are acted for by the rest of the chunk
            noise = {name: draws[None] for name, draws in info.draw_noise(rng).items()}
            chunks.append(module_plan(module, settings, obs[None], noise).numpy().reshape(2, 1))
        # Pendulum's torques reach from -2 to 2.
        acted = np.asarray(json.loads(done.stdout)[selector]) / 2.0
        np.testing.assert_allclose(acted, np.concatenate(chunks), atol=1e-5, rtol=0)


def test_damaged_checkpoints(pendulum_run: Run, rllib: Command, tmp_path: Path) -> None:
    from rllib_fmq.rollout.checkpoints import find_checkpoint

    folder = tmp_path / "checkpoint"
    shutil.copytree(find_checkpoint(pendulum_run[0] / "run"), folder)
    state = next(folder.glob("**/default_policy/module_state.pkl"))
    state.write_bytes(state.read_bytes()[:100])
    outcome = rllib("evaluate", folder, "--episodes", "1")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "is incomplete" in outcome.err and "module_state.pkl has 100 bytes" in outcome.err


def test_plot(pendulum_run: Run, rllib: Command, tmp_path: Path) -> None:
    outcome = rllib("plot", pendulum_run[0], "-o", tmp_path / "c.svg")
    assert outcome.code == 0 and outcome.out.strip() == str(tmp_path / "c.svg")
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_online_only_from_a_checkpoint_and_a_grid(
    pendulum_run: Run, pendulum_data: Path, tmp_path: Path, rllib_here: Command
) -> None:
    storage = pendulum_run[0]
    file = tmp_path / "search.py"
    file.write_text(
        "import json\n"
        "from ray import tune\n"
        "from rllib_fmq import MVPConfig\n"
        f"config = MVPConfig().environment({PENDULUM!r})\n"
        f"config.update_from_dict(json.loads({TINY!r}))\n"
        "config.training(lambda_sd=tune.grid_search([0.5, 1.0]))\n"
        "stop = {'num_online_env_steps': 20}\n"
    )
    outcome = rllib_here(
        *("train", "file", file, "--dataset", pendulum_data, "--initial-checkpoint"),
        *(storage / "run", "--online-env-steps", "1000", "--no-artifacts"),
        *("--evaluation-interval", "0", "--storage-path", tmp_path, "-n", "grid"),
    )
    assert outcome.code == 0, outcome.err
    assert "[00001 lambda_sd=1] online   env steps 20/1,000" in outcome.out
    trials = [path for path in (tmp_path / "grid").iterdir() if path.is_dir()]
    assert len(trials) == 2
    for trial in trials:
        (row,) = results_of(trial)
        assert row["phase"] == "online" and row["num_online_env_steps"] == 20


def test_restore_goes_on_where_the_checkpoint_ended(
    pendulum_run: Run, pendulum_data: Path, tmp_path: Path, rllib_here: Command
) -> None:
    def restore(name: str, data: Path, config: str) -> Outcome:
        return rllib_here(
            *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", data, "--config", config),
            *("--offline-updates", "40", "--online-env-steps", "60", "--no-artifacts"),
            *("--max-failures", "0"),
            *("--restore", pendulum_run[0] / "run", "--storage-path", tmp_path, "-n", name),
        )

    outcome = restore("more", pendulum_data, TINY)
    assert outcome.code == 0, outcome.err
    rows = results_of(only_trial(tmp_path, "more"))
    assert [row["num_online_env_steps"] for row in rows] == [60]
    assert rows[0]["num_updates"] == 90

    # Found out before Ray starts.
    wider = TINY.replace('"actor_hidden": [16]', '"actor_hidden": [8]')
    outcome = restore("wider", pendulum_data, wider)
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "actor_hidden" in outcome.err and not (tmp_path / "wider").exists()

    # Found out in the trial's process: one line all the same.
    other = tmp_path / "other.npz"
    with np.load(pendulum_data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(other, **(arrays | {"rewards": arrays["rewards"] - 1.0}))
    outcome = restore("other", other, TINY)
    assert outcome.code == 1 and outcome.err.count("\n") == 1, outcome.err
    assert "trained on another dataset" in outcome.err


def test_resume_of_a_finished_experiment_changes_nothing(
    pendulum_run: Run, rllib_here: Command
) -> None:
    storage = pendulum_run[0]
    before = results_of(only_trial(storage))
    (only_trial(storage) / "params.pkl").unlink()  # Tune writes it late: a kill may come before
    outcome = rllib_here(
        *("train", "--resume", "--trust", "-n", "run", "--storage-path", storage),
        "--no-artifacts",
    )
    assert outcome.code == 0, outcome.err
    assert results_of(only_trial(storage)) == before


def test_a_job_that_always_fails_is_given_up(
    pendulum_data: Path, rllib_here: Command, tmp_path: Path
) -> None:
    outcome = rllib_here(
        *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", pendulum_data),
        *("--config", TINY[:-1] + ', "max_loss": 1e-12}', "--max-failures", "1"),
        *("--offline-updates", "40", "--online-env-steps", "40"),
        *("--evaluation-interval", "0", "--no-artifacts", "--storage-path", tmp_path, "-n", "run"),
    )
    assert outcome.code == 1, outcome.err
    (said,) = (line for line in outcome.err.splitlines() if line.startswith("rllib: "))
    assert "beyond max_loss=1e-12" in said
    assert said.endswith(" Given up: it failed more than --max-failures=1 times.")
    assert outcome.out.count("failed (failure 1 of 1 allowed), starts again from") == 1
    log = (only_trial(tmp_path) / "error.txt").read_text()
    assert log.count("Failure #") == 2


def test_rllibs_own_algorithms(rllib_here: Command, tmp_path: Path) -> None:
    outcome = rllib_here(
        *("train", "--algo", "PPO", "--env", "CartPole-v1", "--num-env-runners", "0"),
        *("--config", '{"train_batch_size_per_learner": 200, "num_epochs": 1}'),
        *("--stop", '{"training_iteration": 1}', "--storage-path", tmp_path, "-n", "ppo"),
    )
    assert outcome.code == 0, outcome.err
    assert "iteration 1  env steps" in outcome.out
    assert (only_trial(tmp_path, "ppo") / "curves.png").exists()
    refused = rllib_here("evaluate", tmp_path / "ppo")
    assert refused.code == 1 and refused.err.count("\n") == 1
    assert "of another algorithm: expected one of FMQ, QGBS, MVP or QC" in refused.err


def test_more_gpus_than_there_are(pendulum_data: Path, rllib_here: Command, tmp_path: Path) -> None:
    outcome = rllib_here(
        *("train", "--algo", "FMQ", "--env", PENDULUM, "--dataset", pendulum_data),
        *("--num-learners", "1", "--num-gpus-per-learner", "1", "--ray-num-gpus", "0"),
        *("--storage-path", tmp_path / "results"),
    )
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "needs 1 GPUs, and Ray has 0" in outcome.err
    assert not list(tmp_path.rglob("*"))
