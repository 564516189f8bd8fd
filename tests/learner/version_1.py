"""The replay's state as checkpoints of version 1 hold it, inside the learner's state."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_fmq.learner.replay import ReplayTable


def version_1_state(table: ReplayTable) -> dict[str, Any]:
    """What ``ReplayTable.get_state`` was then, row by row: links name places in the ring."""
    counts, numbers = table.counts, table.online_numbers
    ring = counts.capacity - counts.on_disk
    offset = counts.num_offline - counts.on_disk
    rows = np.array([(offset + number) % ring for number in numbers], np.int64)
    link = table.link.cpu().numpy()[rows].astype(np.int64)
    ended = link < 0
    return {
        "num_offline": counts.num_offline,
        "num_added": counts.num_added,
        "capacity": counts.capacity,
        "on_disk": counts.on_disk,
        "obs": table.obs[rows].numpy(),
        "actions": table.actions[rows].numpy(),
        "rewards": table.rewards[rows].numpy(),
        "terminated": table.terminated[rows].numpy(),
        "next_row": np.where(ended, -1, link + counts.on_disk),
        "tail_rows": rows[ended] + counts.on_disk,
        "tail_obs": table.tails.obs[-1 - link[ended]].numpy(),
        "open": {
            name: ((offset + row) % ring + counts.on_disk, counts.num_offline + row + 1)
            for name, row in counts.open.items()
        },
    }
