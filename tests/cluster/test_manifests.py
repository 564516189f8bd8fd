"""The files for clusters are what Ray's launcher, KubeRay and Slurm take."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray._private import utils

from rllib_fmq.studies import load_study
from rllib_fmq.studies.plan import fit_at_once
from rllib_fmq.studies.run import trial_resources
from rllib_fmq.studies.trials import plan_trials

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "cluster"
KUBERAY = sorted(FOLDER.glob("kuberay-*.yaml"))
# Of KubeRay's v1 API: field -> what it holds.
CLUSTER = {
    "rayVersion": str,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
JOB = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": dict,
}
HEAD = {"rayStartParams": dict, "template": dict}
WORKERS = {
    **HEAD,
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
}


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def check_fields(given: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for field, value in given.items():
        assert isinstance(value, known[field]), field


def clusters() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in KUBERAY:
        spec = read(path)["spec"]
        yield path.name, spec.get("rayClusterSpec", spec)


def quantity(text: str) -> float:
    """Of Kubernetes."""
    number, unit = re.fullmatch(r"(\d+)(Gi)?", text).groups()  # type: ignore[union-attr]
    return float(number) * (2**30 if unit else 1)


def room(groups: list[Mapping[str, Any]], least: str) -> list[dict[str, float]]:
    """CPUs and GPUs of the machines that are there from the start."""
    machines = []
    for group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        machine = {
            "CPU": quantity(limits["cpu"]),
            "GPU": quantity(limits.get("nvidia.com/gpu", "0")),
        }
        machines += [machine] * group[least]
    return machines


def test_launcher_file_fits_rays_schema() -> None:
    config = read(FOLDER / "ray-up.yaml")
    schema = json.loads(
        (Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8")
    )
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):  # the schema does refuse what it does not know
        jsonschema.validate(config | {"max_worker": 3}, schema)


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_manifests_have_kuberays_fields(path: Path) -> None:
    content = read(path)
    assert content["apiVersion"] == "ray.io/v1"
    assert set(content) == {"apiVersion", "kind", "metadata", "spec"}
    spec = content["spec"]
    if content["kind"] == "RayJob":
        check_fields(spec, JOB)
        spec = spec["rayClusterSpec"]
    else:
        assert content["kind"] == "RayCluster"
    check_fields(spec, CLUSTER)
    assert spec["rayVersion"] == ray.__version__
    check_fields(spec["headGroupSpec"], HEAD)
    for group in spec["workerGroupSpecs"]:
        check_fields(group, WORKERS)
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(v, str) for v in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name", "image", "resources", "volumeMounts"} <= set(container)
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_rays_objects_fit_into_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, spec in clusters():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            memory = quantity(pod["containers"][0]["resources"]["limits"]["memory"])
            (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "shm")
            size = quantity(volume["emptyDir"]["sizeLimit"])
            monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda size=size: int(size))
            assert utils.resolve_object_store_memory(int(memory)) <= size <= memory / 2, name


@functools.cache
def reserved(study: str) -> list[dict[str, float]]:
    """What a trial of a study file takes."""
    loaded = load_study(ROOT / study)
    one = dataclasses.replace(loaded, tasks=loaded.tasks[:1], seeds=(0,), settings=())
    bundles: list[dict[str, float]] = trial_resources(one, plan_trials(one)[-1]).bundles
    return bundles


ONE_RUN, PAPER = "examples/cluster/one_run.py", "tuned_examples/studies/paper.py"


def test_first_machines_hold_a_trial() -> None:
    """Tune would wait for ever, so that the command refuses to start."""
    for name, spec in clusters():
        bundles = reserved(PAPER if "study" in name else ONE_RUN)
        assert fit_at_once(bundles, room(spec["workerGroupSpecs"], "minReplicas")) >= 1, name
    types = read(FOLDER / "ray-up.yaml")["available_node_types"].values()
    machines = [kind["resources"] for kind in types for _ in range(kind.get("min_workers", 0))]
    assert fit_at_once(reserved(ONE_RUN), machines) == 1


def test_one_run_asks_for_four_gpus() -> None:
    bundles = reserved(ONE_RUN)
    assert [bundle["GPU"] for bundle in bundles if bundle.get("GPU")] == [1, 1, 1, 1]
    assert len(bundles) == 1 + 32 + 8 + 4


def commands() -> Iterator[str]:
    """What the files tell to run."""
    for path in sorted(FOLDER.iterdir()):
        text = re.sub(r" \\+\n#?\s*|\n {4}(?=-o )", " ", path.read_text(encoding="utf-8"))
        yield from re.findall(r"rllib study run (?!FILE)[^\n\"]*", text)


def test_commands_name_files_that_exist() -> None:
    found = [shlex.split(command) for command in commands()]
    assert len(found) >= 7
    for words in found:
        assert (ROOT / words[3]).is_file(), words
        assert "--ray-address" in words, words


def write_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_slurm_starts_the_same_command_on_every_node(tmp_path: Path) -> None:
    programs, submit = tmp_path / "bin", tmp_path / "submit"
    programs.mkdir()
    (submit / ".venv" / "bin").mkdir(parents=True)
    (submit / ".venv" / "bin" / "activate").write_text("true\n")
    write_program(programs, "scontrol", 'echo "$@" >&2; printf "node3\\nnode4\\n"')
    wait = '"$RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT"'
    write_program(programs, "srun", f'printf "%s\\n" {wait} "$@"; exit 7')
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(submit),
        "SLURM_JOB_NODELIST": "node[3-4]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "41234",
        "SLURM_CPUS_PER_TASK": "32",
        "SLURM_GPUS_ON_NODE": "4",
    }
    script = ["bash", str(FOLDER / "slurm.sh")]
    subprocess.run(["bash", "-n", script[1]], check=True)
    called = subprocess.run(
        [*script, "rllib", "study", "run", "my study.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 7  # a failed command fails the job
    words = called.stdout.splitlines()
    assert words[0] == "600"
    assert words[1:5] == ["--nodes=2", "--ntasks=2", "--cpus-per-task=32", "--kill-on-bad-exit=1"]
    assert words[5:] == [
        *("ray", "symmetric-run", "--address", "node3:21234", "--min-nodes", "2"),
        *("--num-cpus=32", "--num-gpus=4", "--", "rllib", "study", "run", "my study.py"),
    ]
    nothing = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (nothing.returncode, nothing.stdout) == (2, "")


def test_ray_has_the_command_that_slurm_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.scripts import symmetric_run

    given = ["--address", "node3:21234", "--min-nodes", "2", "--num-cpus=32", "--num-gpus=4"]
    arguments = symmetric_run.curate_and_validate_ray_start_args(given)
    assert arguments == ["--num-cpus=32", "--num-gpus=4"]
    monkeypatch.setenv("RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT", "600")
    assert runpy.run_path(symmetric_run.__file__)["CLUSTER_WAIT_TIMEOUT"] == 600


def patterns(name: str) -> set[str]:
    """Of a file such as .gitignore, in a form that those of git and Docker share."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    kept = (line for line in lines if line and line[0] not in "#!")
    return {line.removeprefix("**/").removesuffix("*").strip("/") for line in kept}


def test_image_takes_no_more_than_the_sources() -> None:
    assert patterns(".gitignore") | {".git", "data"} <= patterns(".dockerignore")
    needed = {"examples", "pyproject.toml", "requirements", "rllib_fmq", "setup.py"}
    assert not (needed | {"README.md", "tuned_examples"}) & patterns(".dockerignore")
