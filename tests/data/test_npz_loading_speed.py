"""Loading an OGBench file costs little more than reading it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_loading_takes_at_most_one_and_a_half_times_numpys_own_reading(tmp_path: Path) -> None:
    npz_loading = pytest.importorskip("benchmarks.npz_loading")
    path = npz_loading.write_file(tmp_path / "cube-triple-play-v0.npz", rows=1_000_000)
    npz_loading.load(path)  # imports, and the first compile
    # Making the environment takes the same second for any number of rows, so it is left out here;
    # the clock is that of a machine which does other things too, so CPU time is compared.
    _, cpu = npz_loading.ratios(npz_loading.measure(path, 3))["load without environment / numpy"]
    assert cpu < 1.5
