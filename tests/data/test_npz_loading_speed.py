"""Loading an OGBench file costs little more than reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_fmq.data.formats import npz


@pytest.mark.slow
def test_loading_takes_at_most_one_and_a_half_times_numpys_own_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npz_loading = pytest.importorskip("benchmarks.npz_loading")
    # One thread, as NumPy: two that share a core's caches take more CPU time for the same work.
    monkeypatch.setattr(npz, "_READERS", 1)
    path = npz_loading.write_file(tmp_path / "cube-triple-play-v0.npz", rows=200_000)
    npz_loading.load(path)  # imports, and the first compile
    # Making the environment takes the same second for any number of rows, so it is left out here;
    # the clock is that of a machine which does other things too: CPU time, of the best of each.
    times = npz_loading.measure(path, 4)
    numpy, load, environment = (
        min(cpu for _, cpu in times[name]) for name in ("numpy", "load", "environment")
    )
    assert load - environment < 1.5 * numpy
