"""The package as it is built, installed and checked: metadata, lock file, linters, hygiene."""

from __future__ import annotations

import ast
import email
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rllib_fmq

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    *("ogbench", "robomimic", "minari", "plots", "video", "search", "export", "serve"),
    *("bench", "dev"),
}
TOOLS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that setuptools builds from a copy of the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "rllib_fmq", tree / "rllib_fmq")
    build = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tree / "dist")], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tree / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """Core metadata of that wheel."""
    return email.message_from_bytes(read_dist_info(wheel, "METADATA"))


@pytest.fixture(scope="module")
def lock() -> dict[str, Version]:
    """Pinned version of each package in requirements/lock.txt, by canonical name."""
    pins: dict[str, Version] = {}
    for line in (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert match, f"not an exact pin without a local version, path or URL: {line!r}"
        name = canonicalize_name(match[1])
        assert name not in pins, f"{name} is pinned twice"
        pins[name] = Version(match[2])
    return pins


def read_dist_info(wheel: zipfile.ZipFile, name: str) -> bytes:
    """Content of the one file of that name in the wheel's ``.dist-info``."""
    (path,) = (p for p in wheel.namelist() if re.fullmatch(rf"[^/]+\.dist-info/{name}", p))
    return wheel.read(path)


def requirements(metadata: Message) -> list[Requirement]:
    """All requirements of the wheel, those of its extras included."""
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def is_core(requirement: Requirement) -> bool:
    """Whether a requirement is installed without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def repo_files() -> list[Path]:
    """Files that git tracks or would add, in the work tree."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]


def test_name_version_and_python(metadata: Message) -> None:
    assert metadata["Name"] == "rllib-fmq"
    assert metadata["Version"] == rllib_fmq.__version__
    assert metadata["Requires-Python"] == ">=3.10"


def test_version_is_stated_once() -> None:
    statement = re.compile(r"^__version__\s*=", re.MULTILINE)
    sources = [ROOT / "setup.py", *(ROOT / "rllib_fmq").rglob("*.py")]
    found = [p.name for p in sources if statement.search(p.read_text(encoding="utf-8"))]
    assert found == ["_version.py"]


def test_extras_and_command(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert b"rllib = rllib_fmq.cli:main" in read_dist_info(wheel, "entry_points.txt")


def test_wheel_has_every_module_the_marker_and_the_license(wheel: zipfile.ZipFile) -> None:
    packaged = {name for name in wheel.namelist() if name.startswith("rllib_fmq/")}
    on_disk = {str(p.relative_to(ROOT)) for p in (ROOT / "rllib_fmq").rglob("*.py")}
    assert packaged == on_disk | {"rllib_fmq/py.typed"}, "a folder without __init__.py?"
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"rllib_fmq"}
    text = (ROOT / "LICENSE").read_bytes()
    assert read_dist_info(wheel, "licenses/LICENSE") == text
    assert b"Apache License\n" in text
    assert b"END OF TERMS AND CONDITIONS" in text


def test_lock_satisfies_every_range(metadata: Message, lock: dict[str, Version]) -> None:
    for requirement in requirements(metadata):
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{requirement} is not pinned in requirements/lock.txt"
        assert lock[name] in requirement.specifier, f"{name}=={lock[name]} is outside {requirement}"


def test_lock_covers_what_the_core_pulls_in(metadata: Message, lock: dict[str, Version]) -> None:
    todo = [r for r in requirements(metadata) if is_core(r)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        # A CUDA build of torch brings packages of its own; torch pins them exactly itself.
        if (name, extras) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add((name, extras))
        assert name in lock, f"{name} is pulled in but not pinned in requirements/lock.txt"
        for text in importlib.metadata.requires(name) or []:
            child = Requirement(text)
            if is_core(child) or any(child.marker.evaluate({"extra": e}) for e in extras):
                todo.append(child)


def test_every_import_is_declared(metadata: Message) -> None:
    """The package imports nothing that some requirement of its own does not name."""
    owners = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(r.name) for r in requirements(metadata)}
    for path in sorted((ROOT / "rllib_fmq").rglob("*.py")):
        for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            if module in sys.stdlib_module_names or module == "rllib_fmq":
                continue
            names = {canonicalize_name(n) for n in owners.get(module, [module])}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module}: not in setup.py"


def imported_modules(tree: ast.AST) -> set[str]:
    """Top-level names of all absolute imports in a module, nested ones included."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize("tool", TOOLS)
def test_linters_have_nothing_to_say(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *TOOLS[tool]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def test_no_path_of_one_machine_and_nothing_left_open() -> None:
    # Written in pieces, so that this file does not find itself.
    home = re.compile(r"(?<![\w.~$-])/(?:" + "|".join(("root", "home", "Users", "work")) + r")/")
    left_open = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
    found = []
    for path in repo_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if home.search(line) or left_open.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)
