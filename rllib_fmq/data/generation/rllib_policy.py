"""Low-level policies out of RLlib checkpoints: SAC's and PPO's default MLPs, checked after reading.

An RLlib checkpoint is a pickle: reading one runs what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

from rllib_fmq.data.generation.low_level_policy import SQUASHES, LowLevelPolicy, make_policy

# Where an Algorithm's checkpoint keeps its parts; the folder may also be the module's own.
_MODULE = Path("learner_group", "learner", "rl_module", "default_policy")
_CONNECTOR = Path("env_runner", "env_to_module_connector")
# Connectors that leave an observation's numbers as they are.
_HARMLESS = "ray.rllib.connectors.common"

Layer = tuple[ArrayLike, ArrayLike]


def read_rllib_policy(checkpoint: Path) -> LowLevelPolicy:
    """Read the deterministic policy of an RLlib checkpoint of SAC or PPO.

    Args:
        checkpoint: Folder of an Algorithm's checkpoint, whose MeanStdFilter is taken along if there
            is one, or of an RLModule's.
    Raises:
        FileNotFoundError: If it is no folder of a checkpoint.
        ValueError: If its policy is no MLP, or not SAC's or PPO's.
    """
    from ray.rllib.core.rl_module.rl_module import RLModule

    folder = checkpoint if _is_module(checkpoint) else checkpoint / _MODULE
    if not _is_module(folder):
        raise FileNotFoundError(
            f"no RLlib checkpoint with a policy in {checkpoint}: expected the folder that "
            "Algorithm.save_to_path (or Tune) wrote, or an RLModule's"
        )
    try:
        module = RLModule.from_checkpoint(str(folder.resolve()))
    except Exception as error:  # unpickling may fail in any way
        raise ValueError(
            f"RLlib checkpoint {checkpoint} cannot be read ({type(error).__name__}: {error}): it "
            "is damaged, or another version of Ray wrote it"
        ) from error
    try:
        squash = _squash(module)
        mean, std, clip = _normalisation(checkpoint / _CONNECTOR)
        layers, activation = _layers(module)
        policy = make_policy(
            layers,
            activation=activation,
            squash=squash,
            obs_mean=mean,
            obs_std=std,
            obs_clip=clip,
        )
        _check_same(module, policy)
    except ValueError as error:
        raise ValueError(f"RLlib checkpoint {checkpoint}: {error}") from error
    return policy


def _is_module(folder: Path) -> bool:
    return any(folder.glob("module_state*"))


def _layers(module: Any) -> tuple[list[Layer], str]:
    """Layers from the observation to the action's mean, and the activation between them."""
    from torch import nn

    names: dict[type[nn.Module], str] = {
        nn.Tanh: "tanh",
        nn.ReLU: "relu",
        nn.SiLU: "silu",
        nn.ELU: "elu",
    }
    encoder = getattr(module, "pi_encoder", None)  # SAC
    if encoder is None:
        both = getattr(module, "encoder", None)  # PPO: separate, or shared with the value function
        encoder = getattr(both, "actor_encoder", None) or getattr(both, "encoder", None)
    head = getattr(module, "pi", None)
    if encoder is None or head is None:
        raise ValueError(f"{type(module).__name__} is not the default RLModule of SAC or PPO")
    layers: list[Layer] = []
    between: set[str] = set()
    for part in (*encoder.modules(), *head.modules()):
        if isinstance(part, nn.Linear):
            weight = part.weight.detach().cpu().numpy()
            bias = np.zeros(len(weight)) if part.bias is None else part.bias.detach().cpu().numpy()
            layers.append((weight, bias))
        elif type(part) in names:
            between.add(names[type(part)])
        elif not any(part.children()):
            raise ValueError(f"its policy has a {type(part).__name__}; only a plain MLP is read")
    if len(between) > 1 or (len(layers) > 1 and not between):
        raise ValueError(f"its policy's activations are {sorted(between)}, expected one kind")
    if layers:
        # The last layer gives the means and, unless they are free parameters, the log deviations.
        size = module.action_space.shape[0]
        layers[-1] = (np.asarray(layers[-1][0])[:size], np.asarray(layers[-1][1])[:size])
    return layers, between.pop() if between else "linear"


def _squash(module: Any) -> str:
    space = module.action_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"its action space is {space}, expected a Box of one dimension")
    low, high = space.low, space.high
    if not (np.all(low == -1.0) and np.all(high == 1.0)):
        raise ValueError(f"its actions lie in [{low.min()}, {high.max()}], expected [-1, 1]")
    name = module.get_inference_action_dist_cls().__name__
    return "tanh" if "Squashed" in name else "clip"


def _normalisation(folder: Path) -> tuple[ArrayLike | None, ArrayLike | None, float]:
    """Mean, standard deviation and bound of the checkpoint's MeanStdFilter, if it has one."""
    if not folder.is_dir():
        return None, None, np.inf
    from ray.rllib.connectors.env_to_module import EnvToModulePipeline
    from ray.rllib.connectors.env_to_module.mean_std_filter import MeanStdFilter

    mean: ArrayLike | None = None
    std: ArrayLike | None = None
    clip: float | None = None
    for connector in EnvToModulePipeline.from_checkpoint(str(folder.resolve())).connectors:
        if isinstance(connector, MeanStdFilter):
            (part,) = connector._filters.values()
            stats = part.running_stats
            mean = stats.mean if part.demean else np.zeros_like(stats.mean)
            std = stats.std + 1e-8 if part.destd else np.ones_like(stats.mean)
            clip = part.clip
        elif not type(connector).__module__.startswith(_HARMLESS):
            raise ValueError(
                f"its connector {type(connector).__name__} changes observations in a way that "
                "cannot be exported; only MeanStdFilter can"
            )
    return mean, std, np.inf if clip is None else clip


def _check_same(module: Any, policy: LowLevelPolicy) -> None:
    """Compare with what the module itself does on normalised observations."""
    import torch
    from ray.rllib.core.columns import Columns

    x = np.random.default_rng(0).normal(size=(8, policy.obs_dim)).astype(np.float32)
    with torch.no_grad():
        out = module.forward_inference({Columns.OBS: torch.from_numpy(x)})
    mean = out[Columns.ACTION_DIST_INPUTS].numpy()[:, : policy.action_dim]
    # RLlib's own to_deterministic() leaves out the tanh that SAC was trained with.
    expected = SQUASHES[policy.squash](mean.astype(np.float64))
    error = np.abs(policy.act(x * policy.obs_std + policy.obs_mean) - expected).max()
    if not error < 1e-3:
        raise ValueError(
            f"its layers do not reproduce its own actions (difference {error:.3g}); only SAC's and "
            "PPO's default modules are read"
        )
