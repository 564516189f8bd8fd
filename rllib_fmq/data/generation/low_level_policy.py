"""Low-level policies of legged robots: what the joints do to walk into a desired direction.

A trained policy is a plain MLP on [proprioception, direction]. Its npz file holds numbers and names
only, nothing that is executed on loading:

    weight_0, bias_0, weight_1, ...   float, (outputs, inputs) and (outputs,), first layer first
    activation                        after every layer but the last: "tanh", "relu", "silu", ...
    squash                            after the last layer: "tanh", or "clip" to [-1, 1]
    obs_mean, obs_std, obs_clip       input is clip((obs - obs_mean) / obs_std, +-obs_clip)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.data.formats.npz import Arrays, members_of, read_npz, write_npz

Floats = NDArray[np.float64]

_GELU_SCALE = math.sqrt(2.0 / math.pi)
ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(_GELU_SCALE * (x + 0.044715 * x**3))),
    "linear": lambda x: x,
}
"""Activations that a policy may have between its layers, by name."""

SQUASHES: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "clip": lambda x: np.clip(x, -1.0, 1.0),
}
"""How the last layer's output becomes an action in [-1, 1], by name."""


@dataclass(frozen=True, eq=False)
class LowLevelPolicy:
    """A deterministic MLP policy for a legged robot, in NumPy alone.

        action = squash(W_n ... activation(W_0 x + b_0) ... + b_n),
        x = clip((obs - obs_mean) / obs_std, -obs_clip, obs_clip)

    Args:
        weights: Matrix of each layer, shape (outputs, inputs).
        biases: Vector of each layer, shape (outputs,).
        activation: Key of `ACTIVATIONS`.
        squash: Key of `SQUASHES`.
        obs_mean: Subtracted from the observation, shape (obs_dim,).
        obs_std: Divides it, shape (obs_dim,), > 0.
        obs_clip: Bound of the normalised observation, > 0; infinity for none.
    Raises:
        ValueError: If the arrays do not fit together.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str
    squash: str
    obs_mean: Floats
    obs_std: Floats
    obs_clip: float = math.inf

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(
                f"expected as many biases as weights, at least one: got {len(self.weights)} "
                f"weights and {len(self.biases)} biases"
            )
        size = len(self.obs_mean) if self.obs_mean.ndim == 1 else -1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != size or 0 in weight.shape:
                before = "obs_mean" if layer == 0 else f"weight_{layer - 1}"
                raise ValueError(
                    f"weight_{layer} has shape {weight.shape}, expected (outputs, {size}) to fit "
                    f"{before}"
                )
            size = len(weight)
            if bias.shape != (size,):
                raise ValueError(f"bias_{layer} has shape {bias.shape}, expected ({size},)")
        if self.obs_std.shape != self.obs_mean.shape:
            raise ValueError(
                f"obs_std has shape {self.obs_std.shape}, obs_mean {self.obs_mean.shape}"
            )
        for name, known in (("activation", ACTIVATIONS), ("squash", SQUASHES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}"
                )
        named: dict[str, Floats] = {"obs_mean": self.obs_mean, "obs_std": self.obs_std}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"weight_{layer}": weight, f"bias_{layer}": bias}
        for name, values in named.items():
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds a value that is not finite")
        if not (self.obs_std > 0.0).all():
            raise ValueError(f"obs_std must be positive, its least entry is {self.obs_std.min()}")
        if not self.obs_clip > 0.0:
            raise ValueError(f"obs_clip must be positive, got {self.obs_clip}")

    @property
    def obs_dim(self) -> int:
        """Size of proprioception and direction together."""
        return len(self.obs_mean)

    @property
    def action_dim(self) -> int:
        """Size of an action."""
        return len(self.biases[-1])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that an action depends on; saving to npz keeps it."""
        digest = hashlib.sha256(f"{self.activation} {self.squash} {self.obs_clip}".encode())
        for array in (*self.weights, *self.biases, self.obs_mean, self.obs_std):
            digest.update(f"{array.shape}".encode() + array.astype("<f8").tobytes())
        return digest.hexdigest()

    def act(self, obs: ArrayLike) -> Floats:
        """Action for an observation.

        Args:
            obs: [proprioception, direction], shape (..., obs_dim): the robot's observation in the
                maze without its x and y, then a unit vector in the plane.
        Returns:
            Action, shape (..., action_dim), in [-1, 1].
        """
        x = (np.asarray(obs, np.float64) - self.obs_mean) / self.obs_std
        x = np.clip(x, -self.obs_clip, self.obs_clip)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # Not `@`: BLAS may sum in another order with another number of threads, and a dataset's
            # bytes may not depend on where its episodes were recorded.
            x = np.einsum("oi,...i->...o", weight, x) + bias
            x = SQUASHES[self.squash](x) if layer == last else ACTIVATIONS[self.activation](x)
        return x


def make_policy(
    layers: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    activation: str,
    squash: str,
    obs_mean: ArrayLike | None = None,
    obs_std: ArrayLike | None = None,
    obs_clip: float = math.inf,
) -> LowLevelPolicy:
    """Build a policy from its layers; see `LowLevelPolicy`.

    Args:
        layers: (weight, bias) of each layer; rounded to float32, as a file holds them.
        activation: Key of `ACTIVATIONS`.
        squash: Key of `SQUASHES`.
        obs_mean: Shape (obs_dim,); None is zeros.
        obs_std: Shape (obs_dim,); None is ones.
        obs_clip: Bound of the normalised observation.
    Raises:
        ValueError: If the arrays do not fit together.
    """
    weights = tuple(_as_stored(weight) for weight, _ in layers)
    size = weights[0].shape[-1] if weights and weights[0].ndim else 0
    return LowLevelPolicy(
        weights=weights,
        biases=tuple(_as_stored(bias) for _, bias in layers),
        activation=activation,
        squash=squash,
        obs_mean=np.zeros(size) if obs_mean is None else np.asarray(obs_mean, np.float64),
        obs_std=np.ones(size) if obs_std is None else np.asarray(obs_std, np.float64),
        obs_clip=float(obs_clip),
    )


def _as_stored(array: ArrayLike) -> Floats:
    return np.asarray(array, np.float32).astype(np.float64)


def save_low_level_policy(path: str | Path, policy: LowLevelPolicy) -> Path:
    """Write a policy as a small npz file, weights in float32.

    Args:
        path: File to write, ending in .npz.
        policy: The policy.
    Returns:
        The file.
    Raises:
        ValueError: If the name does not end in .npz.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"a low-level policy is written to a file ending in .npz, got '{path}'")
    arrays: Arrays = {
        "activation": np.array(policy.activation),
        "squash": np.array(policy.squash),
        "obs_mean": policy.obs_mean,
        "obs_std": policy.obs_std,
        "obs_clip": np.array(policy.obs_clip),
    }
    for layer, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        arrays[f"weight_{layer}"] = weight.astype(np.float32)
        arrays[f"bias_{layer}"] = bias.astype(np.float32)
    write_npz({path: arrays})
    return path


def load_low_level_policy(path: str | Path) -> LowLevelPolicy:
    """Load a low-level policy.

    Args:
        path: npz file (see this module's head), or the folder of an RLlib checkpoint of SAC or PPO.
            A checkpoint is a pickle, and loading it runs what is in it: load only your own. An npz
            file is never unpickled.
    Raises:
        FileNotFoundError: If there is neither.
        ValueError: Naming the file, and what in it is missing, damaged or of the wrong shape.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        from rllib_fmq.data.generation.rllib_policy import read_rllib_policy

        return read_rllib_policy(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"low-level policy not found: {path} (an npz file or the folder of an RLlib checkpoint;"
            " examples/train_directional_policy.py trains one)"
        )
    arrays = _read_arrays(path)
    try:
        return _from_arrays(arrays)
    except ValueError as error:
        raise ValueError(f"low-level policy {path}: {error}") from error


def _read_arrays(path: Path) -> Arrays:
    layers = sum(name.startswith("weight_") for name in members_of(path))
    required = ["activation", "squash", "obs_mean", "obs_std"]
    for layer in range(max(layers, 1)):
        required += [f"weight_{layer}", f"bias_{layer}"]
    return read_npz(path, required=required, optional=["obs_clip"])


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> LowLevelPolicy:
    for name, array in arrays.items():
        text = name in ("activation", "squash")
        kinds = "U" if text else "fiu"
        if array.dtype.kind not in kinds or (text or name == "obs_clip") != (array.ndim == 0):
            expected = "one name" if text else "one number" if name == "obs_clip" else "numbers"
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {expected}")
    count = sum(name.startswith("weight_") for name in arrays)
    return make_policy(
        [(arrays[f"weight_{layer}"], arrays[f"bias_{layer}"]) for layer in range(count)],
        activation=str(arrays["activation"]),
        squash=str(arrays["squash"]),
        obs_mean=arrays["obs_mean"],
        obs_std=arrays["obs_std"],
        obs_clip=float(arrays["obs_clip"]) if "obs_clip" in arrays else math.inf,
    )


def export_rllib_policy(checkpoint: str | Path, path: str | Path) -> Path:
    """Write the policy of an RLlib checkpoint (SAC or PPO) as a small npz file.

    Args:
        checkpoint: Folder of the checkpoint. It is a pickle: only your own.
        path: File to write, ending in .npz.
    Returns:
        The file.
    Raises:
        FileNotFoundError, ValueError: If the checkpoint holds no policy of known form.
    """
    from rllib_fmq.data.generation.rllib_policy import read_rllib_policy

    return save_low_level_policy(path, read_rllib_policy(Path(checkpoint).expanduser()))
