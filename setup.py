"""Packaging of rllib_fmq: flow map policies with Q-guidance on RLlib's new API stack."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read ``__version__`` without importing the package, whose dependencies may be missing."""
    text = (ROOT / "rllib_fmq" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise ValueError('rllib_fmq/_version.py must have a line like __version__ = "1.2.3"')
    return match.group(1)


# What the package cannot be imported without. The exact versions that the tests ran with are in
# requirements/lock.txt; the ranges here say what the code relies on.
CORE = [
    # torch.func.jvp over a functional module, foreach lerp for the target networks.
    "torch>=2.6,<3",
    # One minor release: the learner, the connectors and the checkpoints override methods whose
    # signatures change between minor releases. The `rllib` extra pins gymnasium to one patch.
    "ray[rllib]>=2.60,<2.61",
    "gymnasium>=1.2,<1.3",
    # pyarrow, which Ray imports, refuses to load beside numpy 1.
    "numpy>=2.0,<3",
    # Readers and writers of HDF5 (RoboMimic, D4RL) and Parquet (RLlib's recorded episodes).
    "h5py>=3.11,<4",
    "pyarrow>=17",
    # The tables of studies; Ray Tune needs it too.
    "pandas>=2.2,<4",
    "msgpack>=1.0,<2",
    "requests>=2.31,<3",
    "urllib3>=2,<3",
    "scipy>=1.11,<2",
    "typer>=0.15,<1",
    "rich>=13.8,<16",
]

# robosuite and ogbench share one mujoco: ogbench excludes 3.9.0, robosuite 1.5.1 fails with 3.10
# and later, mink asks for 3.8.1.
MUJOCO = "mujoco>=3.8.1,<3.9"

EXTRAS = {
    "ogbench": ["ogbench>=1.2,<1.3", MUJOCO],
    # Exact: robosuite 1.5.2 pins a mink that pulls numpy 1; newer minks, numbas and OpenCVs have
    # not been run with it. It compiles evdev from source: gcc and the kernel headers are needed.
    "robomimic": [
        "robosuite==1.5.1",
        MUJOCO,
        "mink==1.2.0",
        "numba==0.68.1",
        "opencv-python==4.11.0.86",
    ],
    "minari": ["minari>=0.5.4,<0.6", "pillow>=10.1"],
    "plots": ["matplotlib>=3.9,<4"],
    "video": ["imageio-ffmpeg>=0.5,<1", "pillow>=10.1"],
    # A search algorithm for Ray Tune: examples/tune_eta_beta.py.
    "search": ["optuna>=4,<6"],
    # `rllib export`; what it writes needs torch or onnxruntime only.
    "export": ["onnx>=1.18,<2", "onnxscript>=0.5,<1", "onnxruntime>=1.20,<2"],
    # rllib_fmq.serving.serve_app.
    "serve": [
        "ray[serve]>=2.60,<2.61",
        "fastapi>=0.133,<1",
        "starlette>=1.0.1,<2",
        "pydantic>=2.5,<3",
        "prometheus_client>=0.20,<1",
    ],
    # The JAX baseline of `make bench`; without it the suite leaves that column out.
    "bench": ["jax>=0.10,<0.11", "jaxlib>=0.10,<0.11", "flax>=0.12,<0.13", "optax>=0.2.5,<0.3"],
    "dev": [
        "pytest>=8.3,<10",
        "pytest-xdist>=3.6,<4",
        "pytest-timeout>=2.3,<3",
        "hypothesis>=6.120,<7",
        # The formatter's output belongs to a minor release.
        "ruff>=0.17,<0.18",
        "mypy>=2.4,<3",
        "optuna>=4,<6",
        # `make chaos` and `make soak` find and measure processes with it.
        "psutil>=6,<8",
        # RLlib's own recorder of episodes, which the tests run, needs it.
        "msgpack-numpy>=0.4.8,<0.5",
        # Requests to the policy server's interface without a server.
        "httpx2>=2,<3",
    ],
}

setup(
    name="rllib-fmq",
    version=read_version(),
    description="Flow map policies with optimal Q-guidance (FMQ, QGBS) as RLlib algorithms",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["rllib_fmq", "rllib_fmq.*"]),
    package_data={"rllib_fmq": ["py.typed"]},
    zip_safe=False,
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["rllib = rllib_fmq.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
