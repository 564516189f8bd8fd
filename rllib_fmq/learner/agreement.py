"""Whether all learners have the same parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """A number for each tensor that tells its bits.

        d = sum_i (2 i + 1) b_i  mod 2^64

    with b_i the i-th four bytes, as an integer. Factors are odd, so that no change of a single
    number, not of its last bit, leaves d as it was; values that change places change it too.
    Integers are added exactly, in whatever order a device does it. Nothing waits for the device.

    Args:
        tensors: Of one device, each of any type and shape.
    Returns:
        Shape (len(tensors),), int64, on that device.
    Source: ours.
    """
    return torch.stack([_digest_one(tensor) for tensor in tensors.values()])


def _digest_one(tensor: Tensor) -> Tensor:
    flat = tensor.detach().contiguous().flatten()
    words = flat.numel() * flat.element_size() % 4 == 0
    bits = flat.view(torch.int32 if words else torch.uint8).to(torch.int64)
    odd = torch.arange(1, 2 * bits.numel(), 2, device=bits.device)
    return (bits * odd).sum()


def gather_digests(tensors: Mapping[str, Tensor]) -> Tensor:
    """The digests of all learners; all of them must call this.

    Args:
        tensors: This learner's.
    Returns:
        Shape (learners, len(tensors)), int64, on the tensors' device.
    """
    own = digest(tensors)
    gathered = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, own)
    return torch.stack(gathered)


def check_agreement(names: Sequence[str], digests: Tensor, num_updates: int) -> None:
    """Refuse learners that differ; this waits for the device.

    Args:
        names: Of the tensors.
        digests: From ``gather_digests``.
        num_updates: Gradient updates done, for the message.
    Raises:
        RuntimeError: Names the learners, the first tensor, and what to do.
    """
    differs = (digests != digests[0]).cpu()
    if not differs.any():
        return
    first = int(differs.any(dim=0).nonzero()[0])
    ranks = ", ".join(str(int(rank)) for rank in differs.any(dim=1).nonzero())
    count = int(differs.any(dim=0).sum())
    raise RuntimeError(
        f"learners have different parameters at update {num_updates}: rank {ranks} differs from "
        f"rank 0 in {count} of {len(names)} tensors, first in {names[first]}. Resume from a "
        "checkpoint that is older than the last check that passed (parameter_check_interval): all "
        "learners get its parameters. If it happens again, look for a faulty device, or code that "
        "changes parameters on one learner only."
    )
