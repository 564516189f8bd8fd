"""robosuite, imported quietly and made to draw from a generator of one's own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.tasks.seeding import global_numpy_random


@functools.cache
def import_robosuite() -> ModuleType:
    """Import robosuite without its warnings, and without its choice of an OpenGL for MuJoCo.

    Raises:
        ModuleNotFoundError: If it is not installed, with the command that installs it.
    """
    gl = os.environ.get("MUJOCO_GL")
    # It reports missing macros and optional packages, none of which are needed here. Its logger
    # is set to INFO while it is imported, hence a filter instead of a level.
    logger = logging.getLogger("robosuite_logs")
    logger.addFilter(_from_warning_upwards)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("robosuite")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this task needs the package {error.name!r}, which is not installed: "
            "pip install 'rllib-fmq[robomimic]'",
            name=error.name,
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        # It sets MUJOCO_GL=egl, whether or not that works; rendering.py chooses what does.
        if gl is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = gl


def _from_warning_upwards(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


class SimulatorRandomness:
    """The random numbers of one simulator.

    robosuite 1.5.1 draws from NumPy's global generator (placements, joint noise, sizes) and from
    Python's (which object, in two environments), never from a generator of its own. Here both stand
    in for the global ones while the simulator may draw, so that simulators in one process, and
    whatever else uses the global generators, do not disturb each other.
    """

    def __init__(self) -> None:
        self._numpy = np.random.RandomState()
        self._python = random.Random()

    def seed(self, seed: int) -> None:
        """Make everything that is drawn from here on a function of `seed`."""
        words = np.random.SeedSequence(seed).generate_state(9)
        self._numpy.seed(words[:8])
        self._python.seed(int(words[8]))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Run a block in which the global generators are this simulator's."""
        outer = random.getstate()
        random.setstate(self._python.getstate())
        try:
            with global_numpy_random(self._numpy):
                yield
        finally:
            self._python.setstate(random.getstate())
            random.setstate(outer)


def needs_new_model(env_name: str) -> bool:
    """Whether an environment must load its model anew at each reset.

    Of RoboMimic's tasks Lift draws its model (the cube's size), and so does Transport (the
    hammer's). For the others a reset that keeps the model gives the same numbers bit for bit, in
    about a twentieth of the time.

    Args:
        env_name: robosuite's name.
    """
    return env_name not in _CONSTANT_MODEL


_CONSTANT_MODEL = frozenset({"PickPlaceCan", "NutAssemblySquare", "ToolHang"})


def release_memory(simulator: Any) -> None:
    """Give back what making a simulator leaves behind: half of what it takes.

    Args:
        simulator: robosuite's environment, just made.
    """
    for robot in simulator.robots:
        robot.robot_model.mujoco_model = None  # of the arm alone; only its making needs it
    if sys.platform == "linux":
        # The C library keeps what the compiler of models freed, in pieces too small for the next.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def restore_state(simulator: Any, state: ArrayLike, model_xml: str | None) -> Any:
    """Put a simulator that was just reset into a stored state.

    Args:
        simulator: robosuite's environment.
        state: Time, qpos and qvel, as RoboMimic files hold them.
        model_xml: Model to load first, as in a demonstration's `model_file`.
    Returns:
        robosuite's observations there.
    Raises:
        ValueError: If the state does not fit the model, or the model cannot be loaded.
    """
    if model_xml is not None:
        try:
            simulator.reset_from_xml_string(simulator.edit_model_xml(model_xml))
        except (ValueError, SyntaxError) as error:  # MuJoCo's, and that of the XML parser
            text = " ".join(str(error).split())
            raise ValueError(f"cannot load the model of this state: {text}") from error
    sim = simulator.sim
    flat = np.asarray(state, np.float64)
    size = 1 + sim.model.nq + sim.model.nv
    if flat.shape != (size,) or not np.isfinite(flat).all():
        raise ValueError(
            f"a state of {type(simulator).__name__} is {size} finite numbers (time, "
            f"{sim.model.nq} of qpos, {sim.model.nv} of qvel), got shape {flat.shape}"
        )
    # Controllers are made anew as in a reset: with the fingers where the model has them, the arm
    # in the posture in which the episode began, towards which its controller is drawn. That is
    # the state's posture at time 0; later it is unknown but for its noise.
    sim.reset()
    starts = flat[0] == 0.0
    for robot in simulator.robots:
        posture = robot.init_qpos
        try:
            if starts:
                robot.init_qpos = flat[1 : 1 + sim.model.nq][robot._ref_joint_pos_indexes]
            robot.reset(deterministic=True)
        finally:
            robot.init_qpos = posture
    sim.set_state_from_flattened(flat)
    sim.forward()
    if not starts:
        for robot in simulator.robots:
            for controller in robot.part_controllers.values():
                controller.update(force=True)
    simulator._obs_cache = {}
    for observable in simulator._observables.values():
        observable.reset()
    observations = simulator._get_observations(force_update=True)
    if not starts:
        # robosuite computes an object's pose in the gripper from the object's last one: at an
        # episode's start there is none (it gives zeros), later the nearest we know is this one.
        observations = simulator._get_observations(force_update=True)
    return observations


class Camera:
    """Pictures of a robosuite environment, drawn by MuJoCo without a display.

    The renderer is made at the first picture, and again after the simulator loaded a new model.

    Args:
        simulator: robosuite's environment.
        name: Camera; None for the one that RoboMimic's videos use.
        width: Width of a picture in pixels.
        height: Height of a picture in pixels.
    Raises:
        ValueError: If there is no such camera, or a size is not positive.
    """

    def __init__(self, simulator: Any, name: str | None, *, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"width and height must be at least 1, got {width} and {height}")
        known = list(simulator.sim.model.camera_names)
        default = _CAMERAS.get(type(simulator).__name__, "agentview")
        self._name = name or (default if default in known else known[0])
        if self._name not in known:
            raise ValueError(f"there is no camera {self._name!r}; there are {', '.join(known)}")
        self._simulator = simulator
        self._width = width
        self._height = height
        self._renderer: Any = None
        self._model: Any = None

    def picture(self) -> NDArray[np.uint8]:
        """Picture of the current state, shape (height, width, 3), uint8."""
        import mujoco

        sim = self._simulator.sim
        model, data = sim.model._model, sim.data._data
        if self._model is not model:
            self.close()
            # Only here, because rendering imports the registry of all tasks, which imports this.
            from rllib_fmq.tasks.rendering import find_gl_backend, use_gl_backend

            backend = find_gl_backend()
            if backend is None:
                raise RuntimeError("cannot render: MuJoCo found no working OpenGL")
            use_gl_backend(backend)
            model.vis.global_.offwidth = max(model.vis.global_.offwidth, self._width)
            model.vis.global_.offheight = max(model.vis.global_.offheight, self._height)
            model.vis.quality.shadowsize = 0  # in software they take most of a frame's time
            self._renderer = mujoco.Renderer(model, self._height, self._width, max_geom=10_000)
            self._model = model
        option = mujoco.MjvOption()
        option.geomgroup[0] = 0  # shapes for collisions, hidden behind those to be seen
        option.geomgroup[1] = 1
        self._renderer.update_scene(data, camera=self._name, scene_option=option)
        return np.array(self._renderer.render(), np.uint8)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None
        self._model = None


_CAMERAS = {"TwoArmTransport": "shouldercamera0", "ToolHang": "sideview"}
