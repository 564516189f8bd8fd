"""No new way for data to become code: every call that could is listed here with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rllib_fmq"

ALLOWED = {
    ("checkpointing/trust.py", "pickle.load"): "only where the user gave --trust",
    ("checkpointing/plain_pickle.py", "pickle.Unpickler"): "the one that refuses all names",
    ("data/generation/rllib_policy.py", "RLModule.from_checkpoint"): "only with --trust",
    ("data/generation/rllib_policy.py", "EnvToModulePipeline.from_checkpoint"): "with --trust",
    ("data/formats/rllib_episodes.py", "msgpack.unpackb"): "with a decoder that never unpickles",
    ("serving/policy.py", "torch.export.load"): "an exported folder is code: SECURITY.md says so",
    ("python_files.py", "exec_module"): "config and study files are Python: the help says so",
    ("tasks/custom.py", "importlib.import_module"): "module:factory, which the user names",
    ("tasks/robomimic_simulator.py", "importlib.import_module"): "a name written in the code",
}

# Names of calls; what a module is called before the last dot does not matter where it is "*".
UNSAFE = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads"),
    *("dill.load", "joblib.load", "marshal.load", "marshal.loads", "shelve.open"),
    *("pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load"),
    *("*.from_checkpoint", "*.extractall", "*.extract", "shutil.unpack_archive"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "runpy.run_path"),
    *(f"os.exec{how}" for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"os.spawn{how}" for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *("eval", "exec", "compile", "__import__", "importlib.import_module", "*.exec_module"),
    *("msgpack.unpackb", "msgpack.unpack", "msgpack.load", "msgpack.loads", "msgpack.Unpacker"),
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def aliases(tree: ast.AST) -> dict[str, str]:
    """What imported names stand for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.split(".")[0] if node.module != "ray" else "ray"
            for item in node.names:
                found[item.asname or item.name] = f"{module}.{item.name}".removeprefix("ray.")
        elif isinstance(node, ast.Import):
            for item in node.names:
                if item.asname:
                    found[item.asname] = item.name.removeprefix("ray.")
    return found


def keyword(call: ast.Call, name: str) -> object:
    for item in call.keywords:
        if item.arg == name:
            return item.value.value if isinstance(item.value, ast.Constant) else item.value
    return None


def uses(source: str) -> Iterator[str]:
    """Names of unsafe calls and base classes in a module."""
    tree = ast.parse(source)
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = [dotted(base) for base in node.bases]
        elif isinstance(node, ast.Call):
            names = [dotted(node.func)]
        else:
            continue
        for name in names:
            head, dot, rest = name.partition(".")
            name = known.get(head, head) + dot + rest
            last = name.rpartition(".")[2]
            if name in UNSAFE or f"*.{last}" in UNSAFE:
                yield last if last == "exec_module" else name
            elif isinstance(node, ast.Call) and has_unsafe_arguments(node, name, last):
                yield name


def has_unsafe_arguments(call: ast.Call, name: str, last: str) -> bool:
    package = name.partition(".")[0]
    if package == "torch" and last == "load":
        return keyword(call, "weights_only") is not True
    if package in ("np", "numpy", "npy") and last in ("load", "read_array"):
        return keyword(call, "allow_pickle") is not False
    flags = (keyword(call, "shell"), keyword(call, "allow_pickle"))
    return any(flag not in (None, False) for flag in flags)


def test_every_unsafe_call_of_the_package_has_a_reason() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in uses(path.read_text(encoding="utf-8"))
    }
    assert found - set(ALLOWED) == set(), "new: mend it, or list it with its reason"
    assert set(ALLOWED) - found == set(), "gone: take it off the list"


@pytest.mark.parametrize("folder", ["examples", "benchmarks", "tuned_examples"])
def test_scripts_start_no_shell_and_load_no_pickle(folder: str) -> None:
    allowed = {"np.load", "numpy.load"}  # allow_pickle is off by default: own files, no strangers'
    found = {
        (path.name, name)
        for path in (ROOT / folder).rglob("*.py")
        for name in uses(path.read_text(encoding="utf-8"))
        if name not in allowed
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(f)",
        "from pickle import loads\nloads(f)",
        "from pickle import load as read\nread(f)",
        "from ray import cloudpickle\ncloudpickle.load(f)",
        "import ray.cloudpickle as cp\ncp.loads(f)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import torch\ntorch.load(f, weights_only=flag)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f)",
        "reader(f, allow_pickle=True)",
        "import subprocess\nsubprocess.run(c, shell=True)",
        "from os import system\nsystem(c)",
        "import os\nos.execvp(c, a)",
        "import os\nos.spawnl(os.P_WAIT, c)",
        "import runpy\nrunpy.run_path(p)",
        "import asyncio\nasyncio.create_subprocess_shell(c)",
        "eval(text)",
        "archive.extractall()",
        "Algorithm.from_checkpoint(p)",
        "import pickle\nclass U(pickle.Unpickler): pass",
        "import msgpack\nmsgpack.unpackb(b)",
    ],
)
def test_the_search_finds_them(source: str) -> None:
    assert list(uses(source))


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.load(f)",
        "import torch\ntorch.load(f, weights_only=True)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import subprocess\nsubprocess.run(c, shell=False)",
        "module.eval()",
        "import re\nre.compile(text)",
    ],
)
def test_the_search_leaves_others_alone(source: str) -> None:
    assert not list(uses(source))
