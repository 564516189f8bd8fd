"""Python files of settings, which are run as code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from rllib_fmq.errors import root_cause


def run_python_file(path: Path, name: str) -> ModuleType:
    """Run a Python file as a module.

    What it defines reaches other processes by value, since they cannot import it.

    Args:
        path: The file. It can do anything: only run files that you trust.
        name: Of the module.
    Returns:
        The module.
    Raises:
        ValueError: If there is no such Python file, or it fails.
    """
    from ray import cloudpickle

    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    spec = importlib.util.spec_from_file_location(name, path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    arguments = sys.argv
    # RLlib's own examples parse the command line when they are imported.
    sys.argv = [str(path)]
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path} failed: {root_cause(error)}") from error
    finally:
        sys.argv = arguments
    cloudpickle.register_pickle_by_value(module)
    return module
