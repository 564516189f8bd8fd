"""Reads damaged datasets in a process of its own: ``python damage_worker.py JOBS RESULTS``.

One JSON line a job; what is missing at the end is where the process hung or crashed.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SECONDS_EACH = 60.0


def read(job: dict[str, Any]) -> dict[str, Any]:
    from gymnasium.spaces import Box

    from rllib_fmq.data import TransitionTable, check_fits, load_dataset
    from rllib_fmq.data.formats.columns import load_columns

    try:
        if job["verify"]:
            load_columns(job["path"], verify=True)
        table = load_dataset(job["path"], job["env"], filter_key=job.get("filter_key"))
        obs = Box(-np.inf, np.inf, (table.obs_dim,))
        check_fits(table, obs, Box(-1, 1, (table.action_dim,)))
    except (ValueError, FileNotFoundError) as error:
        return {"refused": str(error)}
    except BaseException as error:
        return {"wrong": f"{type(error).__name__}: {error}"}
    # The fingerprint of mapped columns is the one that was stored: take it anew.
    columns = {name: np.array(getattr(table, name)) for name in job["columns"]}
    return {"read": TransitionTable.from_columns(**columns, source="read").fingerprint}


def main() -> None:
    # Slow on a busy machine, and no part of any job.
    import gymnasium
    import minari
    import ogbench
    import pyarrow.parquet

    import rllib_fmq.data

    del gymnasium, minari, ogbench, pyarrow, rllib_fmq
    jobs, results = Path(sys.argv[1]), Path(sys.argv[2])
    with results.open("a") as file:
        for line in jobs.read_text().splitlines():
            job = json.loads(line)
            faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
            result = read(job)
            faulthandler.cancel_dump_traceback_later()
            file.write(json.dumps({"name": job["name"], **result}) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
