"""Starting or joining Ray for a command."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import typer

from rllib_fmq.cli.errors import CommandError, root_cause
from rllib_fmq.cli.quiet import quiet_loggers


def start_ray(
    bundles: Sequence[Mapping[str, float]],
    *,
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    verbose: int,
) -> None:
    """Start or join Ray, and make sure that a trial finds room: Tune would wait for ever.

    Args:
        bundles: What each process of the largest trial needs: "CPU" and "GPU".
        address: Of a cluster to join; None starts Ray here.
        num_cpus: CPUs that Ray may use here; None: this machine's, or as many as a trial needs.
        num_gpus: The same of GPUs.
        verbose: From 1 on, Ray's own messages are shown.
    Raises:
        CommandError: If no Ray answers there, or a trial finds no room.
    """
    import ray

    needed = {kind: sum(bundle.get(kind, 0.0) for bundle in bundles) for kind in ("CPU", "GPU")}
    cpus = math.ceil(needed["CPU"])
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
        ray.init(
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
    for kind, amount in needed.items():
        available = sum(node.get(kind, 0.0) for node in nodes)
        if amount > available:
            ray.shutdown()
            raise CommandError(
                f"one trial needs {amount:g} {kind}s, and Ray has {available:g}: ask for fewer "
                "env-runners, learners or GPUs."
            )
        largest = max((bundle.get(kind, 0.0) for bundle in bundles), default=0.0)
        if largest > max((node.get(kind, 0.0) for node in nodes), default=0.0):
            ray.shutdown()
            raise CommandError(
                f"one process of a trial needs {largest:g} {kind}s, and no machine of Ray's has as "
                "many."
            )
