"""Starting or joining Ray for a command."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from rllib_fmq.cli.errors import CommandError, root_cause
from rllib_fmq.cli.quiet import quiet_loggers

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

_ATTEMPTS = 3
_TOO_SLOW = "timed out during startup"
"""What Ray says when its own processes take longer than 30 s, which no setting of Ray's changes."""


def start_ray(
    requests: Sequence[PlacementGroupFactory],
    *,
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    verbose: int,
) -> None:
    """Start or join Ray, and make sure that each trial finds room: Tune would wait for ever.

    Args:
        requests: What the trials reserve, each for itself.
        address: Of a cluster to join; None starts Ray here.
        num_cpus: CPUs that Ray may use here; None: this machine's, or as many as a trial needs.
        num_gpus: The same of GPUs.
        verbose: From 1 on, Ray's own messages are shown.
    Raises:
        CommandError: If no Ray answers there, or a trial finds no room.
    """
    import ray

    cpus = math.ceil(max((_total(r.bundles).get("CPU", 0.0) for r in requests), default=0.0))
    if address is None and num_cpus is not None and num_cpus < cpus:
        raise CommandError(
            f"--ray-num-cpus {num_cpus}: one trial needs {cpus}, one for itself and one for each "
            "env-runner, learner and evaluation runner."
        )
    log_to_driver, level = verbose > 0, "WARNING" if verbose else "CRITICAL"
    if address is None:
        machine = os.cpu_count() or 1
        if num_cpus is None and cpus > machine:
            typer.echo(f"note: {cpus} processes share this machine's {machine} CPUs")
        start_patiently(
            address="local",
            num_cpus=num_cpus or max(machine, cpus),
            num_gpus=num_gpus,
            include_dashboard=False,
            log_to_driver=log_to_driver,
            logging_level=level,
        )
    else:
        try:
            ray.init(address=address, log_to_driver=log_to_driver, logging_level=level)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise CommandError(
                f"--ray-address {address}: no Ray answers there ({root_cause(error)})."
            ) from error
    quiet_loggers(verbose)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    try:
        for request in requests:
            _check_room(request, nodes)
    except CommandError:
        ray.shutdown()
        raise


def _total(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    kinds = {kind for bundle in bundles for kind in bundle}
    return {kind: sum(bundle.get(kind, 0.0) for bundle in bundles) for kind in kinds}


def _check_room(request: PlacementGroupFactory, nodes: Sequence[Mapping[str, float]]) -> None:
    from rllib_fmq.studies.plan import describe_bundles, find_room

    needed = _total(request.bundles)
    for kind in ("CPU", "GPU"):
        amount, available = needed.get(kind, 0.0), sum(node.get(kind, 0.0) for node in nodes)
        if amount > available:
            raise CommandError(
                f"one trial needs {amount:g} {kind}s, and Ray has {available:g}: ask for fewer "
                "env-runners, learners or GPUs."
            )
    together = request.strategy == "STRICT_PACK"
    if not find_room([needed] if together else request.bundles, nodes):
        where = (
            "on one machine, and none" if together else "each on one machine, and none or too few"
        )
        raise CommandError(
            f"one trial needs {describe_bundles(request.bundles)}, {where} of Ray's "
            f"{len(nodes)} have room for that: ask for fewer or smaller processes."
        )


def start_patiently(**arguments: Any) -> None:
    """``ray.init``, again where a busy machine was too slow for Ray.

    Args:
        arguments: Of ``ray.init``.
    """
    import ray

    for left in reversed(range(_ATTEMPTS)):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # Ray raises no other type for it
            if _TOO_SLOW not in str(error) or not left:
                raise
        ray.shutdown()
        typer.echo("note: this machine was too busy for Ray to start within 30 s; again", err=True)
