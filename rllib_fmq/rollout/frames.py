"""From rendered frames to files: an H.264 video, and a strip of frames in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.atomic import replacing


def spaced_steps(length: int, count: int) -> list[int]:
    """Steps of an episode, uniformly spaced, its first and last ones included.

    Args:
        length: Steps of the episode; step 0 is the state after the reset.
        count: At most so many, >= 1.
    Returns:
        Increasing steps in [0, length].
    """
    return sorted({round(step) for step in np.linspace(0, length, min(count, length + 1))})


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


def write_strip(
    path: Path, frames: Sequence[NDArray[np.uint8]], steps: Sequence[int], columns: int = 8
) -> None:
    """Put frames side by side into one PNG, the step on each; it appears when it is complete.

    Args:
        path: File to write, .png.
        frames: Each (height, width, 3), uint8, all of one size.
        steps: The environment step of each frame.
        columns: Frames in a row.
    Raises:
        RuntimeError: If there are no frames.
    Source: the layout of the paper's Figures 5 to 16.
    """
    from PIL import Image, ImageDraw

    if not frames:
        raise RuntimeError("no frames were rendered.")
    height, width = frames[0].shape[:2]
    gap = 4
    across = min(columns, len(frames))
    rows = -(-len(frames) // across)
    size = (across * (width + gap) - gap, rows * (height + gap) - gap)
    strip = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(strip)
    for index, (frame, step) in enumerate(zip(frames, steps, strict=True)):
        corner = (index % across * (width + gap), index // across * (height + gap))
        strip.paste(Image.fromarray(np.ascontiguousarray(frame)), corner)
        pen.text(
            (corner[0] + 6, corner[1] + 4),
            f"step {step}",
            fill="white",
            stroke_width=1,
            stroke_fill="black",
            font_size=max(10, height // 16),
        )
    with replacing(path) as staged:
        strip.save(staged, format="PNG")
