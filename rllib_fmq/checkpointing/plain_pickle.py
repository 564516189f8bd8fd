"""Pickles of plain state, read without running what is in them.

A pickle is a program: unpickling looks names up and calls what they name. RLlib's state files need
few such names (numpy's arrays, scalars and dtypes, and OrderedDict). Here these are answered by
constructors of our own, which check what they are given, and every other name is refused. What
comes out is rebuilt from exact types, so that nothing that a pickle changes in an object survives.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 100
"""Levels of containers in containers."""

# Instructions that bring in objects without naming them in the file.
_REFUSED_OPCODES = frozenset(("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"))
_MEMO_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_DTYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|16)")
_LEAVES = frozenset((type(None), bool, int, float, str, bytes, bytearray))


class ForeignPickleError(ValueError):
    """A pickle that names something other than plain state, so that loading it could run code."""


def load_plain(file: BinaryIO) -> Any:
    """Read a pickle that holds only plain state.

    Args:
        file: Open to read; only ``read()`` is used, so that any filesystem's file will do.
    Returns:
        What it holds: None, bools, numbers, strings, bytes, lists, tuples, sets, dicts,
        OrderedDicts, and numpy arrays and scalars of bools, integers and floats.
    Raises:
        ForeignPickleError: If it names anything else; nothing has been imported or called.
        ValueError: If it is damaged.
    """
    data = file.read()
    _check_opcodes(data)
    try:
        loaded = _PlainUnpickler(io.BytesIO(data)).load()
    except ForeignPickleError:
        raise
    except Exception as error:  # whatever a damaged pickle raises
        raise _damaged(error) from error
    return _Rebuild()(loaded)


def load_plain_file(path: Path) -> Any:
    """``load_plain`` for a local file, which its errors then name.

    Args:
        path: Of the file.
    Raises:
        FileNotFoundError: If there is none.
        ForeignPickleError, ValueError: See ``load_plain``.
    """
    with open(path, "rb") as file:
        try:
            return load_plain(file)
        except ForeignPickleError as error:
            raise ForeignPickleError(f"{path}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _check_opcodes(data: bytes) -> None:
    """Refuse before loading: the memo's size and the arguments' lengths come from the file."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name in _REFUSED_OPCODES:
                raise ForeignPickleError(
                    f"it uses the pickle instruction {opcode.name}: plain state never needs that."
                )
            if opcode.name in _MEMO_PUTS and int(argument or 0) > count:
                raise ValueError(f"memo entry {argument} in a pickle of {count} instructions")
    except ForeignPickleError:
        raise
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ValueError:
    message = " ".join(str(error).split())
    return ValueError(f"damaged, or no pickle ({type(error).__name__}: {message}).")


class _Constructor:
    """What a name in a pickle stands for: it can be called, and nothing else."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ForeignPickleError("it changes a constructor.")


class _DType:
    """A dtype of numbers; numpy's own ``__setstate__`` would believe any size and flags."""

    __slots__ = ("value",)

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        if type(name) is not str or not _DTYPE.fullmatch(name):
            raise ForeignPickleError(f"it has an array of dtype {name!r}, which is no number.")
        self.value: np.dtype[Any] = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if len(state) != 8 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None,) * 3:
            raise ForeignPickleError("it has an array of a dtype that is no number.")
        self.value = self.value.newbyteorder(state[1])


class _StridedArray:
    """An array that was pickled with its shape and bytes as state, since its rows lay apart."""

    __slots__ = ("value",)

    def __init__(self, kind: Any, shape: Any, typecode: Any) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C").copy(order="K")


def _array(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    if type(raw) not in (bytes, bytearray) or type(dtype) is not _DType:
        raise ForeignPickleError("it has an array of objects.")
    sizes = tuple(shape)
    if any(type(size) is not int or size < 0 for size in sizes) or order not in ("C", "F", "K"):
        raise ValueError(f"an array of shape {shape!r} in order {order!r}")
    flat: NDArray[Any] = np.frombuffer(raw, dtype.value)
    if order == "K":
        return np.transpose(flat.reshape(sizes), axes)
    return np.reshape(flat, sizes, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, (1,), "C")[0]


def _no_instance(*arguments: Any) -> Any:
    raise ForeignPickleError("it makes an array without its bytes.")


def _ordered_dict(*arguments: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*arguments)


_CONSTRUCTORS = {
    "numpy.dtype": _Constructor(_DType),
    "numpy.ndarray": _Constructor(_no_instance),
    "numpy._core.numeric._frombuffer": _Constructor(_array),
    "numpy._core.multiarray._reconstruct": _Constructor(_StridedArray),
    "numpy._core.multiarray.scalar": _Constructor(_scalar),
    "collections.OrderedDict": _Constructor(_ordered_dict),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        constructor = _CONSTRUCTORS.get(f"{module}.{name}") if "." not in name else None
        if constructor is None:
            raise ForeignPickleError(
                f"it names {module}.{name}, which is not plain state: loading it could run code."
            )
        return constructor


class _Rebuild:
    """Check and rebuild what was loaded; what is shared stays shared."""

    def __init__(self) -> None:
        # Values are kept as well: an id is free again when its object is gone.
        self._done: dict[int, tuple[Any, Any]] = {}

    def __call__(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            return value
        if kind is np.ndarray or isinstance(value, np.generic):
            return value  # made by `_array` only
        if id(value) in self._done:
            return self._done[id(value)][1]
        if depth > MAX_DEPTH:
            raise ValueError(f"damaged: containers lie more than {MAX_DEPTH} deep.")
        made = self._container(value, depth + 1)
        self._done[id(value)] = (value, made)
        return made

    def _container(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is dict or kind is OrderedDict:
            made: dict[Any, Any] = kind()
            self._done[id(value)] = (value, made)  # it may hold itself
            for key, item in kind.items(value):
                made[self(key, depth)] = self(item, depth)
            return made
        if kind is list:
            items: list[Any] = []
            self._done[id(value)] = (value, items)
            items.extend(self(item, depth) for item in value)
            return items
        if kind in (tuple, set, frozenset):
            return kind(self(item, depth) for item in value)
        if kind is _StridedArray and value.value is not None:
            return value.value
        raise ForeignPickleError(f"it holds a {kind.__name__.strip('_')}, which is no plain state.")
