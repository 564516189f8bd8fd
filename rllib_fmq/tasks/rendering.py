"""Rendering without a display: find an OpenGL that works here, and environments that use it."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rllib_fmq.tasks.names import parse_task
from rllib_fmq.tasks.registry import make_env

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><geom type='sphere' size='1' rgba='1 1 1 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(data)
assert renderer.render().shape == (8, 8, 3)
renderer.close()
"""
_PROBE_SECONDS = 120.0


@functools.cache
def find_gl_backend() -> str | None:
    """Name of an OpenGL backend with which MuJoCo renders here, without a display if need be.

    Each candidate draws a picture in a process of its own, because a broken driver can end one:
    $MUJOCO_GL if it is set, then egl, osmesa and, where there is a display, glfw.

    Returns:
        A value for MUJOCO_GL; None if nothing works.
    """
    candidates = {"darwin": ["cgl"], "win32": ["wgl"]}.get(sys.platform, ["egl", "osmesa"])
    if os.environ.get("DISPLAY"):
        candidates.append("glfw")
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    for backend in dict.fromkeys(([asked] if asked else []) + candidates):
        if _renders(backend):
            return backend
    return None


def _renders(backend: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        result = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def use_gl_backend(backend: str) -> None:
    """Make MuJoCo render with a backend, in this process and in those it starts.

    MuJoCo reads MUJOCO_GL when it is imported, and RLlib imports it: so where it chose another
    backend by then, its context class is replaced.

    Args:
        backend: A result of `find_gl_backend`.
    """
    os.environ["MUJOCO_GL"] = backend
    from mujoco.rendering.classic import gl_context

    if backend == "egl":
        from mujoco.egl import GLContext
    elif backend == "osmesa":
        from mujoco.osmesa import GLContext
    else:
        return
    gl_context.GLContext = GLContext


class Rendered(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An OGBench environment whose `render()` gives RGB frames, and which frees its renderer.

    Args:
        env: OGBench environment.
        shadows: Draw shadows; in software they take most of a frame's time.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, shadows: bool) -> None:
        super().__init__(env)
        self._shadows = shadows

    @property
    def render_mode(self) -> str:  # type: ignore[override]
        """Always "rgb_array"."""
        return "rgb_array"

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Picture of the current state, shape (height, width, 3), uint8."""
        base: Any = self.env.unwrapped
        if not self._shadows:
            base.model.vis.quality.shadowsize = 0  # read when the renderer is made
        return np.asarray(base.render(), dtype=np.uint8)

    def close(self) -> None:
        """Free the renderer while its OpenGL context is still there, then close."""
        base: Any = self.env.unwrapped
        for name in ("_renderer", "custom_renderer"):
            renderer = getattr(base, name, None)
            if renderer is not None:
                renderer.close()
                setattr(base, name, None)
        super().close()  # type: ignore[no-untyped-call]


def render_env(
    name: str, *, width: int = 320, height: int = 240, shadows: bool = False, **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Make an environment whose `render()` returns RGB frames, on a machine without a display too.

    Args:
        name: As `make_env`.
        width: Width of a frame in pixels; OGBench tasks only, as the next two.
        height: Height of a frame in pixels.
        shadows: Draw shadows (about six times slower in software).
        **kwargs: Passed to `make_env`.
    Raises:
        ValueError: If there is no such environment.
        RuntimeError: If nothing here can render, with what to install.
    """
    backend = find_gl_backend() if importlib.util.find_spec("mujoco") else None
    if backend is not None:
        use_gl_backend(backend)
    if parse_task(name) is None:
        return make_env(name, render_mode="rgb_array", **kwargs)
    if backend is None:
        raise RuntimeError(
            "cannot render: MuJoCo found no working OpenGL (tried MUJOCO_GL=egl and osmesa). "
            "Install one, such as `apt-get install libegl1 libgl1-mesa-dri` or "
            "`apt-get install libosmesa6`."
        )
    return Rendered(make_env(name, width=width, height=height, **kwargs), shadows=shadows)
