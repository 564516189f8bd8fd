"""From a checkpoint to a folder that acts without Ray and without this package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rllib_fmq import __version__
from rllib_fmq.checkpointing.policy_file import PolicyRecord
from rllib_fmq.flow.selection import SelectorKind, SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.nn.network_views import NetworkViews
from rllib_fmq.rollout.checkpoints import load_policy, make_checkpoint_env
from rllib_fmq.serving import policy as runtime
from rllib_fmq.serving.programs import SelectorProgram, noise_shapes

TOLERANCE = 1e-5
"""Largest difference between a program's actions and the module's, in [-1, 1], that is exported.
On a CPU in float32 it is about 1e-6."""
CHECKED_ROWS = 16
NEAR_TIES = CHECKED_ROWS // 4
"""So many rows at most may differ because candidates have equal values but for rounding."""
OPSET = 20
"""Of the ONNX models: the first with GELU."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported."""

    folder: Path
    algorithm: str
    selectors: tuple[str, ...]
    largest_difference: float
    """Between the programs' actions and the module's on the same noise, in [-1, 1]."""
    flat_reason: str
    """Why the parts of the environment's observation are not described; empty if they are."""


def export_policy(checkpoint: str | Path, output: str | Path, trust: bool = False) -> ExportReport:
    """Write a self-contained policy.

    The folder holds ``policy.json``, ``policy.py`` (the runtime), and for each selector a
    ``torch.export`` program and an ONNX model. It appears when it is complete. Every program is
    run against the checkpoint's own module first.

    Args:
        checkpoint: See ``find_checkpoint``.
        output: Folder to write; must not exist, or be empty.
        trust: See ``load_policy``.
    Returns:
        What was written.
    Raises:
        FileNotFoundError: If there is no checkpoint.
        FileExistsError: If ``output`` is in use.
        ModuleNotFoundError: If the packages of the extra ``export`` are missing.
        TrustNeededError: If it takes ``trust``.
        ValueError: If the checkpoint is damaged, or a program differs from the module.
    """
    target = Path(output).expanduser().resolve()
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise FileExistsError(f"{output} exists: name a new folder, or remove it.")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"export needs {', '.join(missing)}: pip install 'rllib-fmq[export]'."
        )
    module, record = load_policy(checkpoint, trust)
    with _appearing(target) as folder:
        report = write_policy(folder, module, record, trust)
    return dataclasses.replace(report, folder=target)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that gets its name when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        mask = os.umask(0)
        os.umask(mask)
        staged.chmod(0o777 & ~mask)  # mkdtemp's folders are private
        yield staged
        os.rename(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_policy(
    folder: Path, module: FlowMapModule, record: PolicyRecord, trust: bool = False
) -> ExportReport:
    """Write the files of an exported policy, and check them.

    Args:
        folder: Exists.
        module: On the CPU.
        record: Of the module.
        trust: See ``make_checkpoint_env``.
    Returns:
        What was written.
    Raises:
        ValueError: If a program differs from the module.
    """
    obs_size = int(module.observation_space.shape[0])
    networks = NetworkViews(module.actor, module.critics, obs_size)
    entries: dict[str, Any] = {}
    default = module.evaluation_selector.kind
    settings = {s.kind: s for s in exported_selectors(module.evaluation_selector, record)}
    if default not in settings:
        default = next(iter(settings))
    for kind, chosen in settings.items():
        chunk_shape = (module.horizon_length, module.action_dim)
        program = SelectorProgram(networks, chosen, module.scoring, chunk_shape).eval()
        shapes = noise_shapes(chosen, module.action_size)
        files = write_programs(program, obs_size, shapes, folder / kind)
        entries[kind] = {
            "nfe": chosen.nfe,
            "settings": dataclasses.asdict(chosen),
            "noise": {name: list(shape) for name, shape in shapes.items()},
            "files": {file.name: _digest(file) for file in files},
        }
    parts, flat_reason = _observation_parts(record, obs_size, trust)
    content = _describe(module, record, parts) | {
        "default_selector": default,
        "selectors": entries,
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    (folder / runtime.POLICY_FILE).write_text(text, encoding="utf-8")
    shutil.copyfile(runtime.__file__, folder / "policy.py")
    largest = max(
        difference(folder, module, chosen, backend)
        for chosen in settings.values()
        for backend in runtime.SUFFIXES
    )
    if not largest <= TOLERANCE:
        raise ValueError(
            f"an exported program differs from the checkpoint's policy by {largest:.2g} (allowed: "
            f"{TOLERANCE:g}), and not because candidates have equal values: nothing was written. "
            "Are the networks' numbers very large?"
        )
    return ExportReport(folder, record.algorithm, tuple(settings), largest, flat_reason)


def exported_selectors(trained: SelectorSettings, record: PolicyRecord) -> list[SelectorSettings]:
    """The selectors that a policy can use, with the run's own numbers.

    Args:
        trained: Of the run's evaluations.
        record: Of the policy.
    Returns:
        One-step, best-of-N and QGBS, and Euler where the run used it; Euler alone where the
        policy was trained on the diagonal only.
    """
    kinds: list[SelectorKind] = ["sample", "best_of_n", "qgbs"] if record.jumps_trained else []
    if trained.kind == "euler" or not kinds:
        kinds.append("euler")
    return [dataclasses.replace(trained, kind=kind) for kind in kinds]


def write_programs(
    program: SelectorProgram, obs_size: int, shapes: dict[str, tuple[int, ...]], stem: Path
) -> list[Path]:
    """Write one selector as ``STEM.pt2`` and ``STEM.onnx``, for any number of observations.

    Args:
        program: The selector.
        obs_size: o.
        shapes: Of its noise, from ``noise_shapes``.
        stem: Path without extension.
    Returns:
        The files.
    """
    # Two rows: a trace with one would hold for one only.
    inputs = {"obs": torch.zeros(2, obs_size)}
    inputs |= {name: torch.zeros(2, *shape) for name, shape in shapes.items()}
    batch = torch.export.Dim("batch")
    with _quiet():
        exported = torch.export.export(
            program, (), kwargs=inputs, dynamic_shapes={name: {0: batch} for name in inputs}
        )
        files = [stem.with_suffix(suffix) for suffix in runtime.SUFFIXES.values()]
        torch.export.save(exported, files[0])
        onnx = torch.onnx.export(
            exported,
            input_names=list(inputs),
            output_names=["actions"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert onnx is not None
        onnx.save(files[1])
    return files


def difference(
    folder: Path, module: FlowMapModule, settings: SelectorSettings, backend: str
) -> float:
    """Largest difference between an exported program's actions and the module's own.

    Args:
        folder: Exported from the module.
        module: The checkpoint's.
        settings: Of the selector.
        backend: "torch" or "onnx".
    Returns:
        In units of [-1, 1], on random observations and the same noise. Rows where the module's
        own choice among candidates hangs on rounding do not count, if they are few.
    """
    planner = runtime.Planner(folder, settings.kind, backend)
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((CHECKED_ROWS, planner.info.obs_size), dtype=np.float32)
    rows = [planner.info.draw_noise(rng) for _ in range(CHECKED_ROWS)]
    noise = {name: np.stack([row[name] for row in rows]) for name in planner.info.noise}
    chunks = torch.from_numpy(planner.plan_scaled(obs, noise)).flatten(1)
    own = module_plan(module, settings, obs, noise)
    apart = (chunks - own).abs().amax(1)
    odd = apart > TOLERANCE
    if 0 < int(odd.sum()) <= NEAR_TIES:
        apart = apart[~(odd & near_ties(module, settings, obs, noise, own))]
    return float(apart.max())


def near_ties(
    module: FlowMapModule,
    settings: SelectorSettings,
    obs: runtime.Floats,
    noise: dict[str, runtime.Floats],
    own: torch.Tensor,
    changes: int = 32,
) -> torch.Tensor:
    """Rows where the module chooses otherwise when observations change in their last digits.

    Args:
        module: On the CPU.
        settings: The selector.
        obs: Shape (N, o).
        noise: Inputs of the program.
        own: The module's chunks, shape (N, A).
        changes: How many random ones, of at most 1e-6 of each number, are tried.
    Returns:
        Shape (N,), bool. What follows observations continuously moves far less than by ten times
        ``TOLERANCE``.
    """
    rng = np.random.default_rng(1)
    found = torch.zeros(len(obs), dtype=torch.bool)
    for _ in range(changes):
        near = (obs * (1.0 + rng.uniform(-1e-6, 1e-6, obs.shape))).astype(np.float32)
        moved = (module_plan(module, settings, near, noise) - own).abs().amax(1)
        found |= moved > 10.0 * TOLERANCE
    return found


def module_plan(
    module: FlowMapModule,
    settings: SelectorSettings,
    obs: runtime.Floats,
    noise: dict[str, runtime.Floats],
) -> torch.Tensor:
    """The module's own chunks on the noise of an exported program.

    Args:
        module: On the CPU.
        settings: The selector.
        obs: Shape (N, o).
        noise: Inputs of the program.
    Returns:
        Shape (N, A), in [-1, 1].
    """
    first, *later = (torch.from_numpy(draw) for draw in noise.values())
    draws = iter([first, *(draw for rest in later for draw in rest.unbind(1))])
    return module.plan(torch.from_numpy(obs), settings, lambda _: next(draws)).actions


def _describe(
    module: FlowMapModule, record: PolicyRecord, parts: list[dict[str, Any]]
) -> dict[str, Any]:
    space = record.action_space
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    return {
        "format": runtime.FORMAT,
        "format_version": runtime.FORMAT_VERSION,
        "algorithm": record.algorithm,
        "env": record.env if isinstance(record.env, str) else None,
        "observation": {"size": int(module.observation_space.shape[0]), "parts": parts},
        "action": {
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": space.low.ravel().tolist(),
            "high": space.high.ravel().tolist(),
        },
        "horizon_length": module.horizon_length,
        "action_dim": module.action_dim,
        "versions": {"rllib_fmq": __version__} | {name: version(name) for name in packages},
    }


def _observation_parts(
    record: PolicyRecord, size: int, trust: bool
) -> tuple[list[dict[str, Any]], str]:
    """How a Dict observation is joined, which only the environment knows."""
    try:
        env: Any = make_checkpoint_env(record, trust=trust)
    except Exception as error:  # the policy itself can do without its simulator
        return [], " ".join(str(error).split())[:200] or type(error).__name__
    try:
        space = env.observation_space
    finally:
        env.close()
    parts = list(_parts(space)) if isinstance(space, gym.spaces.Dict) else []
    if any(part is None for part in parts):
        return [], f"{space} has parts that are not Boxes"
    found = [part for part in parts if part is not None]
    if found and sum(int(np.prod(part["shape"])) for part in found) != size:
        return [], f"{space} is not what the policy was trained with, {size} numbers"
    return found, ""


def _parts(space: gym.spaces.Dict, path: tuple[str, ...] = ()) -> Iterator[dict[str, Any] | None]:
    """Boxes in the order of ``gymnasium.spaces.flatten``; None for anything else."""
    for key, part in space.spaces.items():
        here = (*path, str(key))
        if isinstance(part, gym.spaces.Dict):
            yield from _parts(part, here)
        elif isinstance(part, gym.spaces.Box):
            yield {"path": list(here), "shape": list(part.shape)}
        else:
            yield None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes to their own developers."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
