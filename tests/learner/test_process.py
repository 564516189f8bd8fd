"""What a learner sets in its process: threads, memory, and whether it compiles."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rllib_fmq.learner import FlowMapLearner, compiling, memory, threads

Make = Callable[..., FlowMapLearner]


# --- Threads -------------------------------------------------------------------------------


def processes(**values: Any) -> Any:
    defaults: dict[str, Any] = {
        "learner_threads": None,
        "num_env_runners": 0,
        "num_cpus_per_env_runner": 1,
        "evaluation_num_env_runners": 0,
        "evaluation_parallel_to_training": False,
        "evaluation_config": None,
    }
    return SimpleNamespace(**(defaults | values))


@pytest.mark.parametrize(
    ("cores", "values", "expected"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (16, {}, 15),
        (16, {"num_env_runners": 4}, 11),
        (16, {"num_env_runners": 4, "num_cpus_per_env_runner": 2}, 7),
        (16, {"num_env_runners": 3, "num_cpus_per_env_runner": 0.5}, 13),
        (4, {"num_env_runners": 8}, 1),
        (16, {"evaluation_num_env_runners": 5}, 15),
        (16, {"evaluation_num_env_runners": 5, "evaluation_parallel_to_training": True}, 10),
        (
            16,
            {
                "evaluation_num_env_runners": 5,
                "evaluation_parallel_to_training": True,
                "evaluation_config": {"num_cpus_per_env_runner": 2},
            },
            5,
        ),
        (16, {"learner_threads": 3, "num_env_runners": 4}, 3),
    ],
)
def test_threads_are_the_cores_that_are_left(
    monkeypatch: pytest.MonkeyPatch, cores: int, values: dict[str, Any], expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    assert threads.choose_threads(processes(**values)) == expected


def test_the_users_variable_is_left_alone_unless_the_key_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads.choose_threads(processes()) is None
    assert threads.choose_threads(processes(learner_threads=2)) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_are_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert threads.usable_cores() == len(before)


def test_a_learner_sets_its_threads(make_learner: Make) -> None:
    before = torch.get_num_threads()
    try:
        make_learner(learner_threads=2)
        assert torch.get_num_threads() == 2
        make_learner()  # OMP_NUM_THREADS is set in tests
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


WORKERS = """
import ray
ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False,
         logging_level="ERROR")

class Worker:
    def report(self):
        import torch
        return torch.get_num_threads()

workers = [ray.remote(num_cpus=n)(Worker).remote() for n in (1, 2)]
print(*ray.get([worker.report.remote() for worker in workers]))
"""


@pytest.mark.slow
def test_ray_gives_its_processes_a_thread_for_each_cpu() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    result = subprocess.run(
        [sys.executable, "-c", WORKERS], env=environment, capture_output=True, text=True
    )
    two = min(2, threads.usable_cores())
    assert result.stdout.strip() == f"1 {two}", result.stderr[-2000:]


@pytest.mark.slow
def test_a_remote_env_runner_has_one_thread(
    ray_session: None, make_config: Callable[..., Any]
) -> None:
    config = make_config().copy(copy_frozen=False).env_runners(num_env_runners=1)
    algo = config.build_algo()
    try:
        found = algo.env_runner_group.foreach_env_runner(
            lambda runner: torch.get_num_threads(), local_env_runner=False
        )
        assert found == [1]
    finally:
        algo.stop()


# --- Memory --------------------------------------------------------------------------------

KEPT = """
import ctypes
import torch
from rllib_fmq.learner.memory import keep_freed_memory

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

def kept():
    before = resident()
    for _ in range(3):
        blocks = [torch.ones(3_000_000) for _ in range(10)]  # 120 MB
        del blocks
    return resident() - before

# glibc raises its limits by itself at times: hold them where they are at first.
for parameter in (-1, -3):
    ctypes.CDLL(None).mallopt(parameter, 128 * 1024)
without = kept()
print(keep_freed_memory(), without, kept())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_blocks_are_kept() -> None:
    names = (*memory.USERS_OWN, "LD_PRELOAD")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    result = subprocess.run(
        [sys.executable, "-c", KEPT], env=environment, capture_output=True, text=True, check=True
    )
    done, without, kept = result.stdout.split()
    assert done == "True"
    # In MB: by default they go back to the system.
    assert float(without) < 60 < 100 < float(kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.check=0"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
    ],
)
def test_the_users_own_settings_stand(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("mallopt was called"))
    monkeypatch.setenv(name, value)
    assert memory.keep_freed_memory() is False


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("mallopt was called"))
    assert memory.keep_freed_memory() is False


def test_the_dataset_is_loaded_before_blocks_are_kept(
    make_learner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    load = FlowMapLearner._load_replay
    monkeypatch.setattr(
        FlowMapLearner, "_load_replay", lambda self: (order.append("load"), load(self))[1]
    )
    monkeypatch.setattr(
        "rllib_fmq.learner.flow_map_learner.keep_freed_memory", lambda: order.append("keep")
    )
    make_learner()
    assert order == ["load", "keep"]


# --- Compiling -----------------------------------------------------------------------------


def lengths(**values: Any) -> Any:
    defaults = {"compile_updates": "auto", "offline_updates": 0, "online_env_steps": 0}
    return SimpleNamespace(**(defaults | {"utd_ratio": 1.0} | values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"offline_updates": 100_000}, True),
        ({"offline_updates": 99_999}, False),
        ({"offline_updates": 50_000, "online_env_steps": 50_000}, True),
        ({"offline_updates": 50_000, "online_env_steps": 50_000, "utd_ratio": 0.5}, False),
        ({"online_env_steps": 20_000, "utd_ratio": 5}, True),
        ({"compile_updates": True}, True),
        ({"compile_updates": False, "offline_updates": 1_000_000}, False),
    ],
)
def test_long_runs_are_compiled(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], expected: bool
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda device_type: True)
    assert compiling.will_compile(lengths(**values), "cpu") is expected


def test_without_a_compiler_nothing_is_compiled_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[str] = []
    monkeypatch.setattr(compiling.shutil, "which", lambda name: name if name in found else None)
    monkeypatch.delenv("CXX", raising=False)
    long = lengths(offline_updates=10**6)
    assert not compiling.will_compile(long, "cpu")
    assert compiling.will_compile(lengths(compile_updates=True), "cpu")
    for name in ("g++", "clang++"):
        found[:] = [name]
        assert compiling.will_compile(long, "cpu")
    found[:] = ["icpx"]
    monkeypatch.setenv("CXX", "icpx -O2")
    assert compiling.will_compile(long, "cpu")
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    assert not compiling.will_compile(long, "cuda")
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: object())
    assert compiling.will_compile(long, "cuda")
    assert not compiling.will_compile(long, "mps")


@pytest.mark.parametrize("chosen", [False, True])
def test_updates_are_told_whether_to_compile(make_learner: Make, chosen: bool) -> None:
    learner = make_learner(compile_updates=chosen)
    assert learner._next_context().compiled is chosen


def test_small_runs_do_not_compile(make_learner: Make) -> None:
    assert make_learner()._next_context().compiled is False


def test_the_first_compiled_update_is_announced_once(
    make_learner: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What is compiled is not the matter here: the plain functions run.
    monkeypatch.setattr(
        "rllib_fmq.nn.objectives.maybe_compiled", lambda function, compiled: function
    )
    monkeypatch.setattr(
        "rllib_fmq.nn.candidate_blocks.maybe_compiled", lambda function, compiled: function
    )
    learner = make_learner(compile_updates=True)
    with caplog.at_level("INFO", logger="rllib_fmq"):
        learner.update(num_updates=0)
        assert compiling.COMPILING not in caplog.messages
        for _ in range(3):
            learner.update(num_updates=1)
    assert caplog.messages.count(compiling.COMPILING) == 1
