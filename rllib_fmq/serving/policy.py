"""An exported policy: loads a folder that ``rllib export`` wrote, and acts.

Needs Python 3.10, NumPy, and PyTorch (backend "torch") or ONNX Runtime (backend "onnx"), and
imports nothing else. Every exported folder holds a copy of this file, ``policy.py``, so that a
robot needs the folder only.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

POLICY_FILE = "policy.json"
FORMAT = "rllib_fmq exported policy"
FORMAT_VERSION = 1
SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
"""Backend -> extension of its programs."""

Floats: TypeAlias = NDArray[np.float32]
Action: TypeAlias = NDArray[Any]
Program: TypeAlias = Callable[[dict[str, Floats]], Floats]
"""``program(inputs) -> chunks``, shapes (N, ...) -> (N, H, d), chunks in [-1, 1]."""


@dataclass(frozen=True)
class ObservationPart:
    """One Box of a Dict observation."""

    path: tuple[str, ...]
    """Its keys, from the outermost in."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PolicyInfo:
    """What ``policy.json`` says of a policy, with one selector chosen."""

    algorithm: str
    env: str | None
    obs_size: int
    parts: tuple[ObservationPart, ...]
    """Of a Dict observation, in the order in which they are joined; empty: one vector."""
    low: Action
    high: Action
    """Bounds of the environment's actions, with their shape and dtype."""
    horizon_length: int
    selector: str
    nfe: int
    noise: Mapping[str, tuple[int, ...]]
    """Noise that one decision takes: name of the input -> shape."""

    def check_observation(self, obs: Any) -> Floats:
        """An observation as the networks want it.

        Args:
            obs: Vector of ``obs_size`` numbers; or, where ``parts`` are known, a mapping.
        Returns:
            Shape (obs_size,).
        Raises:
            ValueError: If it is of another kind or size, or not finite.
        """
        if not isinstance(obs, Mapping):
            return _vector("observation", obs, (self.obs_size,))
        if not self.parts:
            raise ValueError(
                f"observation is a mapping: expected a vector of {self.obs_size} numbers."
            )
        wanted = {part.path for part in self.parts}
        given = dict(_leaves(obs))
        if given.keys() != wanted:
            odd = sorted(".".join(path) for path in given.keys() ^ wanted)
            names = ", ".join(".".join(part.path) for part in self.parts)
            name = odd[0] if odd[0].isprintable() and len(odd[0]) <= 60 else ascii(odd[0][:40])
            raise ValueError(f"observation: {name} is missing or unknown, expected {names}.")
        return np.concatenate(
            [
                _vector(f"observation {'.'.join(p.path)}", given[p.path], p.shape).ravel()
                for p in self.parts
            ]
        )

    def draw_noise(self, rng: np.random.Generator) -> dict[str, Floats]:
        """Noise of one decision.

        Args:
            rng: Its source.
        """
        return {
            name: rng.standard_normal(shape, dtype=np.float32) for name, shape in self.noise.items()
        }

    def unscale(self, chunks: Floats) -> Action:
        """Actions in the environment's units and within its bounds.

        Args:
            chunks: In [-1, 1], shape (N, H, d).
        Returns:
            Shape (N, H, *action shape).
        """
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        centre, half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
        actions = chunks.reshape(*chunks.shape[:2], *self.low.shape) * half + centre
        # Rounding may step over a bound, and spaces check `contains`.
        bounded: Action = np.clip(actions.astype(self.low.dtype), self.low, self.high)
        return bounded


def read_info(folder: str | Path, selector: str | None = None) -> PolicyInfo:
    """What an exported policy expects and gives, without loading its programs.

    Args:
        folder: That ``rllib export`` wrote.
        selector: One that was exported; None: the run's own.
    Raises:
        FileNotFoundError: If there is no exported policy.
        ValueError: If its description is damaged, or the selector unknown.
    """
    return _parse(Path(folder), _read(Path(folder)), selector)


class Planner:
    """Plans chunks for batches of observations; has no state.

    Args:
        folder: That ``rllib export`` wrote.
        selector: "sample", "best_of_n", "euler" or "qgbs", as far as exported; None: the run's own.
        backend: "torch" or "onnx".
    Raises:
        FileNotFoundError: If the folder or a file in it is missing.
        ValueError: If a file is damaged, or the selector or backend is unknown.
        ModuleNotFoundError: If the backend is not installed.
    """

    def __init__(
        self, folder: str | Path, selector: str | None = None, backend: str = "torch"
    ) -> None:
        path = Path(folder)
        if backend not in SUFFIXES:
            raise ValueError(f"backend {backend!r} is unknown: choose one of {list(SUFFIXES)}.")
        content = _read(path)
        self.info = _parse(path, content, selector)
        name = self.info.selector + SUFFIXES[backend]
        digest = content["selectors"][self.info.selector]["files"].get(name)
        if digest is None:
            raise ValueError(f"{path} has no {name}: export the checkpoint again.")
        file = path / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: export the checkpoint again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{file} is damaged (its checksum differs): copy it again.")
        self._program = _load_torch(file) if backend == "torch" else _load_onnx(file)

    def plan(self, obs: Floats, noise: Mapping[str, Floats]) -> Action:
        """Plan one chunk for each observation.

        Args:
            obs: Shape (N, obs_size), from ``check_observation``.
            noise: From ``draw_noise``, each stacked to N rows.
        Returns:
            Actions in the environment's units, shape (N, H, *action shape).
        """
        return self.info.unscale(self.plan_scaled(obs, noise))

    def plan_scaled(self, obs: Floats, noise: Mapping[str, Floats]) -> Floats:
        """As ``plan``, in [-1, 1], shape (N, H, d)."""
        return self._program({"obs": obs, **noise})


class ChunkQueue:
    """State of one episode: its noise, and the actions of the current chunk still to come.

    Args:
        info: Of the policy.
        seed: Of the noise; None: fresh.
    """

    def __init__(self, info: PolicyInfo, seed: int | None = None) -> None:
        self._info = info
        self._actions: deque[Action] = deque()
        self._noise: dict[str, Floats] | None = None
        self._rng = _generator(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: the rest of the chunk is dropped.

        Args:
            seed: Begins the noise anew; None: it goes on.
        Raises:
            ValueError: If the seed is not a whole number >= 0.
        """
        if seed is not None:
            self._rng = _generator(seed)
        self._noise = None
        self._actions.clear()

    def __len__(self) -> int:
        """Actions still to come."""
        return len(self._actions)

    def draw_noise(self) -> dict[str, Floats]:
        """Noise of the next decision: the same until ``fill`` succeeds, or ``reset``."""
        if self._noise is None:
            self._noise = self._info.draw_noise(self._rng)
        return self._noise

    def fill(self, chunk: Action) -> None:
        """Queue a chunk, shape (H, *action shape); ValueError if it is not finite."""
        if not np.isfinite(chunk).all():
            raise ValueError(
                "the actions planned for this observation are not finite: check that its numbers "
                "are in the range of the policy's training data."
            )
        self._noise = None
        self._actions.extend(chunk)

    def pop(self) -> Action:
        """The next action."""
        return self._actions.popleft()


class Policy:
    """An exported policy in one environment.

    Plans ``horizon_length`` actions when the last chunk is used up, and returns one a call.

    Args:
        folder: That ``rllib export`` wrote.
        selector: "sample", "best_of_n", "euler" or "qgbs", as far as exported; None: the run's own.
        backend: "torch" or "onnx".
        seed: Of the noise; None: fresh. The same seed and observations give the same actions, up
            to the last digits also with the other backend.
    Raises:
        FileNotFoundError: If the folder or a file in it is missing.
        ValueError: If a file is damaged, or an argument is wrong.
        ModuleNotFoundError: If the backend is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        selector: str | None = None,
        backend: str = "torch",
        seed: int | None = None,
    ) -> None:
        self._planner = Planner(folder, selector, backend)
        self._queue = ChunkQueue(self._planner.info, seed)

    @property
    def info(self) -> PolicyInfo:
        """What the policy expects and gives."""
        return self._planner.info

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode. Call it whenever the environment is reset.

        Args:
            seed: Begins the noise anew; None: it goes on.
        """
        self._queue.reset(seed)

    def act(self, obs: Any) -> Action:
        """The next action.

        Args:
            obs: As the environment gave it: a vector, or a mapping (see ``PolicyInfo``).
        Returns:
            In the environment's units, of its action's shape and dtype.
        Raises:
            ValueError: If the observation does not fit, or the planned actions are not finite.
        """
        row = self.info.check_observation(obs)
        if not len(self._queue):
            noise = {name: draw[None] for name, draw in self._queue.draw_noise().items()}
            self._queue.fill(self._planner.plan(row[None], noise)[0])
        return self._queue.pop()


def _generator(seed: int | None) -> np.random.Generator:
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if seed is not None and not (whole and seed >= 0):
        raise ValueError(f"seed {seed!r}: must be a whole number >= 0, or None.")
    return np.random.default_rng(seed)


def _vector(name: str, value: Any, shape: tuple[int, ...]) -> Floats:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or array.shape != shape:
        what = f"shape {array.shape}, {array.dtype}" if array.dtype.kind != "O" else "no array"
        raise ValueError(f"{name}: expected numbers of shape {shape}, got {what}.")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise ValueError(f"{name} holds numbers that are not finite in float32.")
    return single


def _leaves(
    obs: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for key, value in obs.items():
        here = (*path, str(key))
        found += _leaves(value, here) if isinstance(value, Mapping) else [(here, value)]
    return found


def _read(folder: Path) -> dict[str, Any]:
    file = folder / POLICY_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} is no exported policy (it has no {POLICY_FILE}): make one with "
            "`rllib export CHECKPOINT -o FOLDER`."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind, version = content["format"], content["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no exported policy's description, or damaged.") from error
    if kind != FORMAT or type(version) is not int:
        raise ValueError(f"{file} is no exported policy's description: its format is {kind!r}.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{file} has format {version}, and this runtime reads {FORMAT_VERSION}: use the "
            "policy.py that lies beside it."
        )
    return dict(content)


def _parse(folder: Path, content: Mapping[str, Any], selector: str | None) -> PolicyInfo:
    try:
        known = content["selectors"]
        name = content["default_selector"] if selector is None else selector
        action, observation = content["action"], content["observation"]
        low, high = (
            np.asarray(action[bound], action["dtype"]).reshape(action["shape"])
            for bound in ("low", "high")
        )
        if name in known:
            return PolicyInfo(
                algorithm=str(content["algorithm"]),
                env=content["env"],
                obs_size=int(observation["size"]),
                parts=tuple(
                    ObservationPart(tuple(part["path"]), tuple(part["shape"]))
                    for part in observation["parts"]
                ),
                low=low,
                high=high,
                horizon_length=int(content["horizon_length"]),
                selector=name,
                nfe=int(known[name]["nfe"]),
                noise={key: tuple(shape) for key, shape in known[name]["noise"].items()},
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / POLICY_FILE} is damaged ({type(error).__name__}: {error})."
        ) from error
    raise ValueError(f"selector {name!r} is not in {folder}: choose one of {list(known)}.")


def _load_torch(file: Path) -> Program:
    import torch

    module = torch.export.load(file).module()

    def run(inputs: dict[str, Floats]) -> Floats:
        with torch.no_grad():
            chunks = module(**{k: torch.from_numpy(value) for k, value in inputs.items()})
        result: Floats = chunks.numpy()
        return result

    return run


def _load_onnx(file: Path) -> Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that wait for the next decision would take a core each from the control loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Floats]) -> Floats:
        result: Floats = session.run(["actions"], inputs)[0]
        return result

    return run
