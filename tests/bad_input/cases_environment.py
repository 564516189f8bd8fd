"""Environments that do not exist, cannot be made, or cannot be trained in."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.faulty_environments import ACTION_SPACES, OBSERVATION_SPACES, RESETS, STEPS
from tests.bad_input.harness import Case, fmq

_MODULE = "tests.bad_input.faulty_environments"


def cases() -> list[Case]:
    """All of them."""
    return [*_names(), *_factories(), *_spaces(), *_first_steps(), *_modules()]


def _names() -> Iterator[Case]:
    for name in (
        "cube-singel-play-singletask-task2-v0",
        "cube-single-play-singletask-task9-v0",
        "cube-single-play-singletask-task2-v7",
        "cube-single-play-v0",
        "cube-dbl-t9",
        "can-xx",
        "can-mh-high_dim",
        "robomimic:gone.hdf5",
        "robomimic:data.npz",
        "robomimic:",
        "Pendulm-v1",
        "Pendulum-v9",
        "Pendulum",
        "ale_py:ALE/Gone-v5",
        "gone_away:Env-v0",
        "gone_away:make",
        "math:make",
        "math:pi",
        ":make",
        "math:",
        "a:b:c",
        " ",
        "../data.npz",
        "data.npz",
        "os.path",
        "gone.away.Env",
    ):
        yield Case(f"name {name!r}", fmq(env=name), name.split(":")[-1].strip() or name)
    yield Case("Gymnasium's, discrete", fmq(env="CartPole-v1"), "Discrete")
    yield Case("Gymnasium's, of texts", fmq(env="Taxi-v3"), "Discrete")
    yield Case("PPO's", ("train", "--algo", "PPO", "--env", "CartPol-v1"), "CartPol-v1")


def _factories() -> Iterator[Case]:
    for name, says in (
        ("makes_nothing", "NoneType"),
        ("makes_a_class", "returned a"),
        ("makes_a_vector", "returned a"),
        ("fails", "no display of any kind"),
        ("fails_silently", "OSError"),
        ("exits", "giving up"),
        ("needs_an_argument", "robot"),
        ("old_environment", "Old"),
        ("not_callable", "is a int"),
        ("gone", "no 'gone'"),
        ("unlike", "size 7"),
    ):
        yield Case(f"factory {name}", fmq(env=f"{_MODULE}:{name}"), says)
    arguments = ("--config", '{"env_config": {"colour": "red"}}')
    yield Case("factory's argument", fmq(*arguments, env=f"{_MODULE}:fails"), "colour")


def _spaces() -> Iterator[Case]:
    for key in ACTION_SPACES:
        yield Case(f"actions: {key}", fmq(env=f"{_MODULE}:action_{key}"), "action space")
    for key in OBSERVATION_SPACES:
        yield Case(f"observations: {key}", fmq(env=f"{_MODULE}:obs_{key}"), "observation space")


def _first_steps() -> Iterator[Case]:
    for key in RESETS:
        name = f"{_MODULE}:reset_{key}"
        yield Case(f"reset: {key}", fmq(env=name), f"{name}' cannot be used")
    for key in (*STEPS, "raises"):
        name = f"{_MODULE}:step_{key}"
        yield Case(f"step: {key}", fmq(env=name), f"{name}' cannot be used")
    yield Case(
        "success_fn that fails",
        fmq("--success-fn", "math:sqrt", env="Pendulum-v1"),
        "math.sqrt() takes exactly one argument",
    )


def _modules() -> Iterator[Case]:
    """Modules that are no help; each name is imported once only."""
    for number, (name, content, says) in enumerate(
        (
            ("fails", "1 / 0\n", "ZeroDivisionError"),
            ("exits", "raise SystemExit(3)\n", "SystemExit"),
            ("lacks a package", "import nothing_like_this\n", "nothing_like_this"),
            ("is no Python", "def make(:\n", "SyntaxError"),
            ("is no text", b"\xff\xfe\0", "make"),
            ("has null bytes", "\0", "null bytes"),
            ("has no factory", "x = 1\n", "no 'make'"),
            ("has a text for one", "make = 'Pendulum-v1'\n", "is a str"),
        )
    ):
        module = f"bad_module_{number}"
        yield Case(f"module {name}", fmq(env=f"{module}:make"), says, {f"{module}.py": content})
