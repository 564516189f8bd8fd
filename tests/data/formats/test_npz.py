"""Archives: damage on the way in, all or nothing on the way out."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data.formats import npz
from rllib_fmq.data.formats.npz import members_of, read_npz, write_npz


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.npz"
    write_npz({path: {"x": np.arange(1000.0), "y": np.ones(3)}})
    return path


def test_round_trip(archive: Path) -> None:
    assert members_of(archive) == {"x", "y"}
    arrays = read_npz(archive, required=["x"], optional=["z"])
    assert list(arrays) == ["x"]
    np.testing.assert_array_equal(arrays["x"], np.arange(1000.0))
    assert [path.name for path in archive.parent.iterdir()] == ["a.npz"]


def test_same_arrays_same_bytes(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.npz"
    write_npz({other: {"x": np.arange(1000.0), "y": np.ones(3)}})
    assert other.read_bytes() == archive.read_bytes()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*none\.npz"):
        read_npz(tmp_path / "none.npz", required=[])


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated(archive: Path, keep: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"cannot read dataset .*a\.npz .*generate or download"):
        read_npz(archive, required=["x"])


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
)
def test_damaged_member(tmp_path: Path, compression: int) -> None:
    plain = tmp_path / "plain.npy"
    np.save(plain, np.random.default_rng(0).normal(size=2000))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.write(plain, "x.npy")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"cannot read dataset .*a\.npz"):
        read_npz(path, required=["x"])


def test_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "single.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="single array"):
        read_npz(path, required=["x"])


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"cannot read dataset .*objects\.npz"):
        read_npz(path, required=["x"])


def test_lacking_member(archive: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks 'u', 'v'; it has 'x', 'y'"):
        read_npz(archive, required=["u", "x", "v"])


def test_nothing_is_written_if_any_file_fails(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archive.read_bytes()
    calls = 0
    save = np.savez_compressed

    def fail_second(file: Any, **arrays: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            file.write(b"half")
            raise OSError("No space left on device")
        save(file, **arrays)

    monkeypatch.setattr(npz.np, "savez_compressed", fail_second)
    with pytest.raises(OSError, match="No space"):
        write_npz({archive: {"x": np.zeros(3)}, tmp_path / "b.npz": {"x": np.zeros(3)}})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert archive.read_bytes() == before
