"""Low-level policies: NumPy inference, small npz files, RLlib's checkpoints, damage."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rllib_fmq.data.generation.low_level_policy import (
    ACTIVATIONS,
    LowLevelPolicy,
    export_rllib_policy,
    load_low_level_policy,
    make_policy,
    save_low_level_policy,
)

OBS, ACTIONS = 29, 8


def random_policy(**changes: Any) -> LowLevelPolicy:
    rng = np.random.default_rng(1)
    sizes = [(16, OBS), (12, 16), (ACTIONS, 12)]
    settings: dict[str, Any] = {
        "activation": "tanh",
        "squash": "tanh",
        "obs_mean": rng.normal(size=OBS),
        "obs_std": rng.uniform(0.5, 2.0, size=OBS),
        "obs_clip": 3.0,
    }
    layers = [(rng.normal(size=size) / 4, rng.normal(size=size[0])) for size in sizes]
    return make_policy(layers, **{**settings, **changes})


def test_round_trip(tmp_path: Path) -> None:
    policy = random_policy()
    path = save_low_level_policy(tmp_path / "deep" / "policy.npz", policy)
    read = load_low_level_policy(path)
    obs = 5.0 * np.random.default_rng(2).normal(size=(20, OBS))
    np.testing.assert_array_equal(read.act(obs), policy.act(obs))
    assert read.fingerprint == policy.fingerprint
    assert (read.obs_dim, read.action_dim, read.obs_clip) == (OBS, ACTIONS, 3.0)
    # One observation or many: the same numbers.
    np.testing.assert_array_equal(read.act(obs[3]), read.act(obs)[3])
    assert path.read_bytes() == save_low_level_policy(tmp_path / "again.npz", read).read_bytes()


def test_fingerprint_tells_policies_apart() -> None:
    policies = [
        random_policy(),
        random_policy(squash="clip"),
        random_policy(obs_clip=4.0),
        random_policy(obs_mean=np.zeros(OBS)),
    ]
    assert len({policy.fingerprint for policy in policies}) == len(policies)


@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_is_the_mlp_that_torch_computes(squash: str) -> None:
    kinds = {"tanh": "Tanh", "relu": "ReLU", "silu": "SiLU", "elu": "ELU", "linear": "Identity"}
    x = 3.0 * np.random.default_rng(3).normal(size=(50, OBS))
    for name in ACTIVATIONS:
        policy = random_policy(activation=name, squash=squash)
        kind = (
            torch.nn.GELU(approximate="tanh")
            if name == "gelu_tanh"
            else getattr(torch.nn, kinds[name])()
        )
        y = torch.from_numpy((x - policy.obs_mean) / policy.obs_std).clamp(-3.0, 3.0)
        last = len(policy.weights) - 1
        for layer, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
            y = y @ torch.from_numpy(weight).T + torch.from_numpy(bias)
            y = y if layer == last else kind(y)
        expected = torch.tanh(y) if squash == "tanh" else y.clamp(-1.0, 1.0)
        np.testing.assert_allclose(policy.act(x), expected.numpy(), atol=1e-12, err_msg=name)


def stored(policy: LowLevelPolicy, tmp_path: Path) -> dict[str, Any]:
    path = save_low_level_policy(tmp_path / "good.npz", policy)
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight_1", None, "lacks 'weight_1'"),
        ("activation", None, "lacks 'activation'"),
        (
            "weight_1",
            np.zeros((12, 15)),
            r"weight_1 has shape \(12, 15\), expected \(outputs, 16\)",
        ),
        ("weight_0", np.zeros(16), r"weight_0 has shape \(16,\)"),
        ("bias_2", np.zeros(9), r"bias_2 has shape \(9,\), expected \(8,\)"),
        ("bias_0", np.full(16, np.nan), "bias_0 holds a value that is not finite"),
        ("weight_0", np.array([["a"] * OBS] * 16), "weight_0 is <U1 .*expected numbers"),
        ("obs_std", np.zeros(OBS), "obs_std must be positive"),
        ("obs_std", np.ones(3), r"obs_std has shape \(3,\)"),
        ("obs_clip", np.array(-1.0), "obs_clip must be positive, got -1"),
        ("obs_clip", np.ones(2), "obs_clip is .*expected one number"),
        ("activation", np.array("swish"), "activation is 'swish', expected one of tanh"),
        ("activation", np.array(3), "activation is .*expected one name"),
        ("squash", np.array("sigmoid"), "squash is 'sigmoid', expected one of tanh, clip"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, value: Any, message: str) -> None:
    arrays = stored(random_policy(), tmp_path)
    arrays.pop(name)
    if value is not None:
        arrays[name] = value
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_low_level_policy(path)
    assert "bad.npz" in str(caught.value)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = stored(random_policy(), tmp_path)
    arrays["weight_0"] = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "bomb.npz", **arrays)  # NumPy pickles object arrays
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.npz", "pickle.npz"):
        with pytest.raises(ValueError, match=name):
            load_low_level_policy(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_truncated_files(tmp_path: Path) -> None:
    content = save_low_level_policy(tmp_path / "good.npz", random_policy()).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            load_low_level_policy(path)


def test_missing_and_misnamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz .*train_directional_policy"):
        load_low_level_policy(tmp_path / "nowhere.npz")
    with pytest.raises(FileNotFoundError, match="no RLlib checkpoint with a policy"):
        load_low_level_policy(tmp_path)
    with pytest.raises(ValueError, match=r"ending in \.npz, got '.*policy\.pt'"):
        save_low_level_policy(tmp_path / "policy.pt", random_policy())


def rl_module(algo: str, **model: Any) -> Any:
    """RLlib's own module, with weights at random."""
    from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from ray.rllib.algorithms.sac.sac_catalog import SACCatalog
    from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    torch.manual_seed(0)
    kind, catalog = {
        "PPO": (DefaultPPOTorchRLModule, PPOCatalog),
        "SAC": (DefaultSACTorchRLModule, SACCatalog),
    }[algo]
    bound = model.pop("bound", 1.0)
    # SAC's module reads its model configuration as a dict, with keys that the class lacks.
    config: Any = DefaultModelConfig(fcnet_hiddens=[24, 24], **model)
    if algo == "SAC":
        config = {**vars(config), "twin_q": True}
    return RLModuleSpec(
        module_class=kind,
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (OBS,), np.float32),
        action_space=gymnasium.spaces.Box(-bound, bound, (ACTIONS,), np.float32),
        model_config=config,
        catalog_class=catalog,
    ).build()


def deterministic(module: Any, obs: Any) -> Any:
    """The median action of the policy's distribution at its least spread."""
    with torch.no_grad():
        out = module.forward_inference({"obs": torch.from_numpy(obs)})
    kind = module.get_inference_action_dist_cls()
    mean, deviation = out["action_dist_inputs"].chunk(2, dim=-1)
    narrow = kind.from_logits(torch.cat([mean, torch.full_like(deviation, -20.0)], dim=-1))
    return narrow.sample(sample_shape=(4001,)).median(dim=0).values


@pytest.mark.parametrize(
    ("algo", "model"),
    [
        ("PPO", {"fcnet_activation": "tanh", "free_log_std": True, "vf_share_layers": False}),
        ("PPO", {"fcnet_activation": "relu", "vf_share_layers": True}),
        (
            "SAC",
            {
                "fcnet_activation": "relu",
                "head_fcnet_hiddens": [16],
                "head_fcnet_activation": "relu",
            },
        ),
    ],
)
def test_reads_rllib_modules(tmp_path: Path, algo: str, model: dict[str, Any]) -> None:
    module = rl_module(algo, **model)
    module.save_to_path(str(tmp_path / "module"))
    path = export_rllib_policy(tmp_path / "module", tmp_path / "policy.npz")
    policy = load_low_level_policy(path)
    assert policy.squash == ("tanh" if algo == "SAC" else "clip")
    obs = np.random.default_rng(0).normal(size=(10, OBS)).astype(np.float32)
    expected = np.clip(deterministic(module, obs).numpy(), -1.0, 1.0)
    assert np.ptp(expected, axis=0).min() > 0.0
    np.testing.assert_allclose(policy.act(obs), expected, atol=1e-3)
    assert load_low_level_policy(tmp_path / "module").fingerprint == policy.fingerprint


def test_takes_the_checkpoints_observation_filter(tmp_path: Path) -> None:
    from ray.rllib.connectors.env_to_module import EnvToModulePipeline
    from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    module = rl_module("PPO", vf_share_layers=False)
    learner = tmp_path / "learner_group" / "learner" / "rl_module" / "default_policy"
    module.save_to_path(str(learner))
    spaces = {
        "input_observation_space": module.observation_space,
        "input_action_space": module.action_space,
    }
    pipeline = EnvToModulePipeline(connectors=[MeanStdFilter()], **spaces)
    rng = np.random.default_rng(4)
    seen = rng.normal(3.0, 2.0, size=(200, OBS)).astype(np.float32)
    for obs in seen:
        episode = SingleAgentEpisode(observations=[obs], observation_space=module.observation_space)
        pipeline(rl_module=module, batch={}, episodes=[episode], explore=False, shared_data={})
    pipeline.save_to_path(str(tmp_path / "env_runner" / "env_to_module_connector"))

    policy = load_low_level_policy(tmp_path)
    np.testing.assert_allclose(policy.obs_mean, seen.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(policy.obs_std, seen.std(axis=0, ddof=1), rtol=1e-4)
    assert policy.obs_clip == 10.0
    normalised = ((seen - policy.obs_mean) / policy.obs_std).astype(np.float32)
    expected = np.clip(deterministic(module, normalised).numpy(), -1.0, 1.0)
    np.testing.assert_allclose(policy.act(seen), expected, atol=1e-3)


def test_modules_that_cannot_be_read(tmp_path: Path) -> None:
    rl_module("PPO", bound=0.4).save_to_path(str(tmp_path / "bound"))
    with pytest.raises(ValueError, match=r"bound: its actions lie in \[-0\.4.*expected \[-1, 1\]"):
        load_low_level_policy(tmp_path / "bound")
    rl_module("PPO", use_lstm=True).save_to_path(str(tmp_path / "lstm"))
    with pytest.raises(ValueError, match="lstm: its policy has a LSTM"):
        load_low_level_policy(tmp_path / "lstm")
    for file in (tmp_path / "lstm").glob("*.pkl"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"lstm cannot be read \(.*damaged"):
        load_low_level_policy(tmp_path / "lstm")


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "robot"), [("PPO", "ant"), ("SAC", "humanoid")])
def test_training_script(tmp_path: Path, algo: str, robot: str) -> None:
    pytest.importorskip("ogbench")
    from rllib_fmq.data.generation.generate import generate_dataset

    script = Path(__file__).resolve().parents[3] / "examples" / "train_directional_policy.py"
    path = tmp_path / f"{robot}.npz"
    arguments = ["--robot", robot, "--algo", algo, "--steps", "200", "--num-envs", "2"]
    arguments += ["--training-intensity", "8"]  # SAC: one update in 32 steps
    arguments += ["--eval-episodes", "1", "--eval-steps", "20", "--output", str(path)]
    process = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4_000:]
    assert "m/s in the wanted direction" in process.stdout
    policy = load_low_level_policy(path)
    assert policy.squash == {"PPO": "clip", "SAC": "tanh"}[algo]
    assert np.isfinite(policy.obs_clip) == (algo == "PPO")  # its MeanStdFilter came along
    # The same policy straight from RLlib's checkpoint, which the script leaves beside it.
    checkpoint = load_low_level_policy(tmp_path / f"{robot}.checkpoint")
    assert checkpoint.fingerprint == policy.fingerprint
    environment = {"ant": "antmaze-medium", "humanoid": "humanoidmaze-medium"}[robot]
    made = generate_dataset(
        f"{environment}-navigate-v0",
        tmp_path,
        steps=30,
        seed=0,
        num_workers=0,
        episode_steps=15,
        progress=False,
        policy=path,
    )
    assert made.is_file()
