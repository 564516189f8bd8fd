"""Rollout videos, rendered in a process of their own: MuJoCo picks its GL when first imported.

Run as ``python -m rllib_fmq.rollout.video CHECKPOINT OUTPUT [OPTIONS AS JSON]``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.atomic import replacing
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.seeds import FINAL_EVALUATION_SEED

NO_GL = ("disable", "disabled", "off", "false", "0")
MISSING_ENCODER = (
    "no video: the package 'imageio-ffmpeg' is not installed: pip install 'rllib-fmq[video]'"
)
NO_OPENGL = (
    " (MuJoCo found no working OpenGL; install one, such as `apt-get install libegl1 "
    "libgl1-mesa-dri` or `apt-get install libosmesa6`)"
)
_RESULT = "video-result: "


@dataclass(frozen=True)
class VideoSettings:
    """Size and length of a video."""

    width: int = 320
    height: int = 240
    max_frames: int = 100
    """A longer episode is shown with every k-th step."""
    time_budget: float = 120.0
    """Seconds after which no more frames are rendered; what there is becomes the video."""


def record_in_subprocess(
    checkpoint: str | Path,
    output: str | Path,
    *,
    selector: SelectorSettings | None = None,
    seed: int = FINAL_EVALUATION_SEED,
    settings: VideoSettings | None = None,
    timeout: float = 300.0,
    report: Callable[[str], None] | None = None,
) -> Path | None:
    """Film one episode of a checkpoint's policy; never raises for want of a renderer.

    Args:
        checkpoint: See ``find_checkpoint``.
        output: File to write, .mp4.
        selector: How actions are chosen; None: as in the run's own evaluations.
        seed: Of the episode.
        settings: Size and length.
        timeout: Seconds until the process is ended.
        report: Called with one line that says what was filmed, or why nothing was.
    Returns:
        Path of the video, or None if there is none.
    """
    say = report or (lambda line: None)
    if find_spec("imageio_ffmpeg") is None:
        say(MISSING_ENCODER)
        return None
    environment, hint = dict(os.environ), ""
    if environment.get("MUJOCO_GL", "").lower() in ("", *NO_GL):
        from rllib_fmq.tasks.rendering import find_gl_backend

        backend = find_gl_backend()
        hint = "" if backend else NO_OPENGL
        environment["MUJOCO_GL"] = backend or "disable"
    options = {
        "selector": None if selector is None else dataclasses.asdict(selector),
        "seed": seed,
        "settings": dataclasses.asdict(settings or VideoSettings()),
    }
    command = [
        *(sys.executable, "-m", "rllib_fmq.rollout.video"),
        *(str(checkpoint), str(output), json.dumps(options)),
    ]
    try:
        process = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"no video: rendering took longer than {timeout:.0f} s.")
        return None
    results = [line for line in process.stdout.splitlines() if line.startswith(_RESULT)]
    if process.returncode == 0 and results:
        say(results[-1].removeprefix(_RESULT))
        return Path(output)
    errors = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    say(f"no video: {errors[-1]}{hint}")
    return None


def record_episode(
    checkpoint: str | Path,
    output: Path,
    selector: SelectorSettings | None,
    seed: int,
    settings: VideoSettings,
) -> str:
    """Film one episode in this process.

    Args:
        checkpoint: See ``find_checkpoint``.
        output: File to write.
        selector: None: the run's own for evaluation.
        seed: Of the episode.
        settings: Size and length.
    Returns:
        A line that says what was filmed.
    Raises:
        RuntimeError: If the environment renders nothing.
    """
    from rllib_fmq.rollout.checkpoints import check_selector, load_policy, make_checkpoint_env
    from rllib_fmq.rollout.evaluation import evaluate_episodes

    module, config = load_policy(checkpoint)
    check_selector(config, selector or module.evaluation_selector)
    env = _rendering_env(
        lambda **kwargs: make_checkpoint_env(config, render_mode="rgb_array", **kwargs), settings
    )
    limit = env.spec.max_episode_steps if env.spec is not None else None
    stride = max(1, math.ceil((limit or settings.max_frames) / settings.max_frames))
    frames: list[NDArray[np.uint8]] = []
    deadline = time.monotonic() + settings.time_budget

    def film(env: Any, step: int) -> None:
        if step == 0:
            simplify_scene(env.unwrapped)
        if step % stride or len(frames) > settings.max_frames or time.monotonic() > deadline:
            return
        frame = None
        with suppress(NotImplementedError):
            frame = env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise RuntimeError(f"environment {config.env!r} renders no RGB frames.")
        frames.append(frame)

    outcome = evaluate_episodes(module, env, [seed], selector, on_step=film)[0]
    steps_a_second = float((env.metadata or {}).get("render_fps") or 20.0)
    write_video(output, frames, min(30.0, max(4.0, steps_a_second / stride)))
    ending = {True: "success", False: "no success", None: "episode"}[outcome.success]
    return (
        f"{output}: {ending} after {outcome.length} steps, return {outcome.episode_return:g}, "
        f"seed {seed}, {len(frames)} frames (every {stride}{_ordinal(stride)} step)"
    )


def simplify_scene(env: Any) -> None:
    """Switch off what software rendering spends its time on, before the first frame.

    Shadows, reflections and multisampling are 95% of a frame's cost without a GPU; where there
    is no MuJoCo model, nothing happens.

    Args:
        env: Innermost environment.
    """
    model: Any = getattr(env, "_model", None) or getattr(env, "model", None)
    if hasattr(model, "light_castshadow") and hasattr(model, "mat_reflectance"):
        model.light_castshadow[:] = 0
        model.mat_reflectance[:] = 0
        model.vis.quality.offsamples = 0


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Encode frames as H.264; the file appears when it is complete.

    Args:
        path: File to write; its extension names the container.
        frames: Each (height, width, 3), uint8, all of one size.
        fps: Frames a second.
    Raises:
        RuntimeError: If there are no frames.
    """
    import imageio_ffmpeg

    # The pixel format halves the colours' resolution, so sizes must be even.
    images = [np.ascontiguousarray(f[: f.shape[0] // 2 * 2, : f.shape[1] // 2 * 2]) for f in frames]
    if not images:
        raise RuntimeError("no frames were rendered within the time budget.")
    height, width = images[0].shape[:2]
    with replacing(path) as staged:
        writer = imageio_ffmpeg.write_frames(
            str(staged), (width, height), fps=fps, quality=8, macro_block_size=2
        )
        writer.send(None)
        for image in images:
            writer.send(image)
        writer.close()


def _rendering_env(make: Callable[..., Any], settings: VideoSettings) -> Any:
    """With the size asked for, where the environment takes one."""
    try:
        return make(width=settings.width, height=settings.height)
    except TypeError:
        return make()


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def main(arguments: list[str]) -> int:
    """Entry point of the process that renders.

    Args:
        arguments: Checkpoint, output, options as JSON.
    Returns:
        Exit code; the last line on stderr says what went wrong.
    """
    warnings.simplefilter("ignore")
    checkpoint, output, options = arguments[0], Path(arguments[1]), json.loads(arguments[2])
    selector = options["selector"]
    try:
        line = record_episode(
            checkpoint,
            output,
            None if selector is None else SelectorSettings(**selector),
            options["seed"],
            VideoSettings(**options["settings"]),
        )
    except Exception as error:  # reported as one line, by the process that asked for the video
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"{_RESULT}{line}", flush=True)
    return 0


if __name__ == "__main__":
    # Not sys.exit: GL contexts complain when the interpreter takes them apart at its end.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
