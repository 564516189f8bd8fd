"""Rollout pictures, rendered in a process of their own: MuJoCo picks its GL when first imported.

Run as ``python -m rllib_fmq.rollout.video CHECKPOINT OPTIONS-AS-JSON``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.rollout.frames import spaced_steps, write_strip, write_video
from rllib_fmq.seeds import FINAL_EVALUATION_SEED

MISSING_PACKAGE = (
    "no {what}: the package {package!r} is not installed: pip install 'rllib-fmq[video]'"
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
    """Uniformly spaced over a longer episode."""
    strip_frames: int = 8
    """Frames of a strip."""
    time_budget: float = 120.0
    """Seconds after which no more frames are rendered for the video; a strip gets all of its."""


def record_in_subprocess(
    checkpoint: str | Path,
    output: str | Path | None,
    *,
    strip: str | Path | None = None,
    selector: SelectorSettings | None = None,
    seed: int = FINAL_EVALUATION_SEED,
    settings: VideoSettings | None = None,
    timeout: float = 300.0,
    report: Callable[[str], None] | None = None,
    trust: bool = False,
) -> Path | None:
    """Film one episode of a checkpoint's policy; never raises for want of a renderer.

    Args:
        checkpoint: See ``find_checkpoint``.
        output: Video to write, .mp4; None for none.
        strip: Picture to write, .png: uniformly spaced frames side by side; None for none.
        selector: How actions are chosen; None: as in the run's own evaluations.
        seed: Of the episode.
        settings: Size and length.
        timeout: Seconds until the process is ended.
        report: Called with one line that says what was filmed, or why nothing was.
        trust: See ``load_policy`` and ``make_checkpoint_env``.
    Returns:
        Path of the video (of the strip, if only that was asked for), or None if there is none.
    """
    say = report or (lambda line: None)
    if output is not None and find_spec("imageio_ffmpeg") is None:
        say(MISSING_PACKAGE.format(what="video", package="imageio-ffmpeg"))
        output = None
    if strip is not None and find_spec("PIL") is None:
        say(MISSING_PACKAGE.format(what="strip", package="pillow"))
        strip = None
    if output is None and strip is None:
        return None
    from rllib_fmq.tasks.rendering import find_gl_backend

    environment = dict(os.environ)
    backend = find_gl_backend()
    hint = "" if backend else NO_OPENGL
    environment["MUJOCO_GL"] = backend or "disable"
    options = {
        "output": None if output is None else str(output),
        "strip": None if strip is None else str(strip),
        "selector": None if selector is None else dataclasses.asdict(selector),
        "seed": seed,
        "settings": dataclasses.asdict(settings or VideoSettings()),
        "trust": trust,
    }
    command = [
        *(sys.executable, "-m", "rllib_fmq.rollout.video"),
        *(str(checkpoint), json.dumps(options)),
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
    made = output or strip
    if process.returncode == 0 and results and made is not None:
        for line in results:
            say(line.removeprefix(_RESULT))
        return Path(made)
    errors = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    say(f"no video: {errors[-1]}{hint}")
    return None


def record_episode(
    checkpoint: str | Path,
    output: Path | None,
    strip: Path | None,
    selector: SelectorSettings | None,
    seed: int,
    settings: VideoSettings,
    trust: bool = False,
) -> list[str]:
    """Film one episode in this process.

    The episode runs twice, which its seed makes the same: once for its length, once for the frames.

    Args:
        checkpoint: See ``find_checkpoint``.
        output: Video to write, or None.
        strip: Strip to write, or None.
        selector: None: the run's own for evaluation.
        seed: Of the episode.
        settings: Size and length.
        trust: See ``load_policy`` and ``make_checkpoint_env``.
    Returns:
        Lines that say what was filmed.
    Raises:
        RuntimeError: If the environment renders nothing.
    """
    from rllib_fmq.rollout.checkpoints import check_selector, load_policy, make_checkpoint_env
    from rllib_fmq.rollout.evaluation import evaluate_episodes

    module, record = load_policy(checkpoint, trust)
    check_selector(record, selector or module.evaluation_selector)
    env = _rendering_env(partial(make_checkpoint_env, record, trust=trust), settings)
    length = evaluate_episodes(module, env, [seed], selector)[0].length
    video_steps = spaced_steps(length, settings.max_frames if output else 1)
    strip_steps = spaced_steps(length, settings.strip_frames) if strip else []
    frames: dict[int, NDArray[np.uint8]] = {}
    late: set[int] = set()
    deadline = time.monotonic() + settings.time_budget

    def film(env: Any, step: int) -> None:
        if step == 0:
            simplify_scene(env.unwrapped)
        if time.monotonic() > deadline:
            late.add(step)
        if step not in strip_steps and (step not in video_steps or step in late):
            return
        frame = None
        with suppress(NotImplementedError):
            frame = env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise RuntimeError(f"environment {record.env!r} renders no RGB frames.")
        frames[step] = frame

    outcome = evaluate_episodes(module, env, [seed], selector, on_step=film)[0]
    ending = {True: "success", False: "no success", None: "episode"}[outcome.success]
    told = f"{ending} after {outcome.length} steps, return {outcome.episode_return:g}, seed {seed}"
    lines = []
    if output is not None:
        filmed = [step for step in video_steps if step in frames and step not in late]
        steps_a_second = float((env.metadata or {}).get("render_fps") or 20.0)
        rate = steps_a_second * len(video_steps) / (length + 1)
        write_video(output, [frames[step] for step in filmed], min(30.0, max(4.0, rate)))
        lines.append(f"{output}: {told}, {len(filmed)} frames")
    if strip is not None:
        shown = [step for step in strip_steps if step in frames]
        write_strip(strip, [frames[step] for step in shown], shown)
        lines.append(f"{strip}: {told}, {len(shown)} frames")
    return lines


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


def _rendering_env(make: Callable[..., Any], settings: VideoSettings) -> Any:
    """With the size asked for, where the environment takes one."""
    sizes: list[dict[str, int]] = [{"width": settings.width, "height": settings.height}, {}]
    for size in sizes:
        try:
            return make(render_mode="rgb_array", **size)
        except TypeError as error:
            refused = error
    raise RuntimeError(
        "the environment cannot be made with render_mode='rgb_array'; let its factory take that "
        f"argument ({refused})"
    )


def main(arguments: list[str]) -> int:
    """Entry point of the process that renders.

    Args:
        arguments: Checkpoint, options as JSON.
    Returns:
        Exit code; the last line on stderr says what went wrong.
    """
    warnings.simplefilter("ignore")
    checkpoint, options = arguments[0], json.loads(arguments[1])
    selector = options["selector"]
    try:
        lines = record_episode(
            checkpoint,
            None if options["output"] is None else Path(options["output"]),
            None if options["strip"] is None else Path(options["strip"]),
            None if selector is None else SelectorSettings(**selector),
            options["seed"],
            VideoSettings(**options["settings"]),
            options["trust"],
        )
    except Exception as error:  # reported as one line, by the process that asked for the video
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for line in lines:
        print(f"{_RESULT}{line}", flush=True)
    return 0


if __name__ == "__main__":
    # Not sys.exit: GL contexts complain when the interpreter takes them apart at its end.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
