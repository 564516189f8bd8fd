"""Rollout videos: what becomes of them with and without what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.rollout import video
from rllib_fmq.rollout.frames import spaced_steps, write_strip, write_video
from rllib_fmq.rollout.video import VideoSettings, record_in_subprocess
from tests.cli.conftest import TINY
from tests.command import Command, run_rllib

CUBE = "cube-single-play-singletask-task1-v0"


def size_and_frames(path: Path) -> tuple[tuple[int, int], int]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    return size, sum(1 for _ in reader)


def test_write_video_crops_to_even_sizes(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    frames = [np.full((51, 65, 3), 20 * i, np.uint8) for i in range(7)]
    path = tmp_path / "new" / "film.mp4"
    write_video(path, frames, fps=10)
    assert size_and_frames(path) == ((64, 50), 7)
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def test_no_frames_no_file(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    with pytest.raises(RuntimeError, match="no frames"):
        write_video(tmp_path / "film.mp4", [], fps=10)
    assert not list(tmp_path.iterdir())


def test_missing_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    lines: list[str] = []
    assert record_in_subprocess("anywhere", tmp_path / "f.mp4", report=lines.append) is None
    assert len(lines) == 1 and "no video: the package 'imageio-ffmpeg'" in lines[0]
    assert "pip install 'rllib-fmq[video]'" in lines[0]
    paths = (tmp_path / "f.mp4", tmp_path / "s.png")
    assert record_in_subprocess("any", paths[0], strip=paths[1], report=lines.append) is None
    assert "no strip: the package 'pillow'" in lines[-1]


def test_a_renderer_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    lines: list[str] = []
    # Python itself takes longer to start.
    made = record_in_subprocess("any", tmp_path / "f.mp4", timeout=0.01, report=lines.append)
    assert made is None and len(lines) == 1 and "took longer than" in lines[0]


def test_scene_without_mujoco_is_left_alone() -> None:
    class Plain:
        model = "a string"

    video.simplify_scene(Plain())
    video.simplify_scene(object())


@pytest.mark.parametrize(("length", "count"), [(0, 8), (3, 8), (200, 8), (200, 1), (999, 100)])
def test_frames_are_spaced_uniformly_over_the_episode(length: int, count: int) -> None:
    steps = spaced_steps(length, count)
    assert steps[0] == 0 and len(steps) == min(count, length + 1)
    assert count == 1 or steps[-1] == length
    gaps = np.diff(steps)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_strip_shows_every_frame_where_it_belongs(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    frames = [np.full((60, 80, 3), 20 * i, np.uint8) for i in range(10)]
    path = tmp_path / "new" / "strip.png"
    write_strip(path, frames, list(range(0, 100, 10)), columns=8)
    with image.open(path) as strip:
        picture = np.asarray(strip)
    assert picture.shape == (2 * 64 - 4, 8 * 84 - 4, 3)
    for index in range(10):  # the lower right of each frame: its upper left bears the step
        row, column = index // 8 * 64, index % 8 * 84
        assert (picture[row + 30 : row + 60, column + 40 : column + 80] == 20 * index).all()
    assert [p.name for p in path.parent.iterdir()] == ["strip.png"]


@pytest.fixture(scope="module")
def cube_run(tmp_path_factory: pytest.TempPathFactory, rllib_here: Command) -> Path:
    """Folder of an experiment on the cube, trained for a moment on random numbers."""
    pytest.importorskip("ogbench")
    folder = tmp_path_factory.mktemp("cube")
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((401, 28))
    data = save_transitions(
        folder / "random.npz",
        observations=obs[:-1],
        actions=rng.uniform(-1, 1, (400, 5)),
        rewards=-np.ones(400),
        next_observations=obs[1:],
        terminated=np.zeros(400, bool),
        truncated=np.zeros(400, bool),
    )
    outcome = rllib_here(
        *("train", "--algo", "QC", "--env", CUBE, "--dataset", data, "--no-artifacts"),
        *("--config", TINY, "--offline-updates", "20", "--online-env-steps", "0"),
        *("--evaluation-interval", "0", "--storage-path", folder, "-n", "qc"),
    )
    assert outcome.code == 0, outcome.err
    return folder / "qc"


@pytest.mark.slow
def test_film_of_the_cube(cube_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    from rllib_fmq.tasks.rendering import find_gl_backend

    if find_gl_backend() is None:
        pytest.skip("no OpenGL for MuJoCo: install libegl1 or libosmesa6")
    # A backend that fails without a display: another one is found.
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    find_gl_backend.cache_clear()
    lines: list[str] = []
    settings = VideoSettings(width=160, height=120, max_frames=10)
    path = record_in_subprocess(
        cube_run,
        tmp_path / "f.mp4",
        strip=tmp_path / "s.png",
        seed=7,
        settings=settings,
        report=lines.append,
    )
    assert path == tmp_path / "f.mp4", lines
    size, frames = size_and_frames(path)
    assert size == (160, 120) and frames == 10
    assert len(lines) == 2 and "seed 7" in lines[0] and "10 frames" in lines[0]
    with pytest.importorskip("PIL.Image").open(tmp_path / "s.png") as strip:
        assert strip.size == (8 * 164 - 4, 120) and "8 frames" in lines[1]


@pytest.mark.slow
def test_evaluation_without_opengl_says_so_and_succeeds(cube_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    # A value that MuJoCo knows, and that cannot draw anything.
    code = (
        "import rllib_fmq.tasks.rendering as r; r.find_gl_backend = lambda: None\n"
        "import sys; from rllib_fmq.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.run(
        [
            *(sys.executable, "-c", code, "evaluate", str(cube_run), "--selector", "euler"),
            *("--num-candidates", "1", "--euler-steps", "1", "--episodes", "1"),
            *("--video", str(tmp_path / "f.mp4")),
        ],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "euler (1 steps, N=1), NFE 1" in process.stdout
    assert "MuJoCo found no working OpenGL" in process.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_qc_refuses_selectors_that_jump(cube_run: Path) -> None:
    outcome = run_rllib("evaluate", cube_run, "--selector", "qgbs", "--episodes", "1")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "use the selector 'euler'" in outcome.err
