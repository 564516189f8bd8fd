"""Plain state comes back exactly; nothing else is loaded, however it is written."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rllib_fmq.checkpointing import plain_pickle
from rllib_fmq.checkpointing.plain_pickle import ForeignPickleError, load_plain, load_plain_file

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(10)[::2],
    "inner": np.arange(24.0).reshape(4, 6)[1:3, 2:5],
    "big-endian": np.arange(3, dtype=">f4"),
    "bools": np.array([True, False]),
    "bytes": np.arange(5, dtype=np.uint8),
    "empty": np.zeros((0, 3)),
    "no-axes": np.array(2.5),
    "half": np.array([1.5], np.float16),
}


def dump(value: Any, protocol: int = 5) -> bytes:
    return pickle.dumps(value, protocol)


def load(data: bytes) -> Any:
    return load_plain(io.BytesIO(data))


def by_hand(opcodes: bytes) -> bytes:
    return b"\x80\x04" + opcodes + b"."


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    """REDUCE."""
    return function + b"(" + b"".join(arguments) + b"tR"


DTYPE = call(name("numpy", "dtype"), text("f4"))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("key", list(ARRAYS))
def test_arrays_come_back_exactly(key: str, protocol: int) -> None:
    array = ARRAYS[key]
    if protocol == 2:
        with pytest.raises(ForeignPickleError, match=r"_codecs\.encode"):
            load(dump(array, 2))
        return
    loaded = load(dump(array, protocol))
    assert type(loaded) is np.ndarray and loaded.dtype == array.dtype
    assert loaded.shape == array.shape and loaded.flags.writeable
    np.testing.assert_array_equal(loaded, array)


@pytest.mark.parametrize(
    "value", [np.float32(0.1), np.int64(-3), np.bool_(True), np.float64("nan")]
)
def test_scalars_come_back_exactly(value: Any) -> None:
    loaded = load(dump(value))
    assert type(loaded) is type(value)
    np.testing.assert_array_equal(loaded, value)


def test_containers_come_back_exactly() -> None:
    shared = [1, 2.5, None, True, "text", b"bytes", bytearray(b"b")]
    value = {
        "ordered": OrderedDict(b=np.zeros(2), a=shared),
        "again": shared,
        1: (shared, {1, 2}, frozenset((3,))),
        "large": 2**100,
    }
    loaded = load(dump(value))
    assert list(loaded) == list(value) and type(loaded["ordered"]) is OrderedDict
    assert list(loaded["ordered"]) == ["b", "a"]
    assert loaded["again"] == shared and loaded[1][1:] == value[1][1:]
    assert loaded["again"] is loaded["ordered"]["a"] is loaded[1][0]
    assert loaded["large"] == 2**100


def test_a_container_may_hold_itself() -> None:
    value: list[Any] = [{}]
    value[0]["up"] = value
    loaded = load(dump(value))
    assert loaded[0]["up"] is loaded


class Gadget:
    """Unpickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return "elsewhere" if value == "here" else None


def persistent() -> bytes:
    file = io.BytesIO()
    Persistent(file, 4).dump(["here"])
    return file.getvalue()


def objects() -> Any:
    array = np.empty(1, object)
    array[0] = "an object"
    return array


NAMED = {
    "os.system": dump(Gadget(os.system, "true")),
    "builtins.eval": dump(Gadget(eval, "1")),
    "builtins.getattr": dump(Gadget(getattr, "text", "upper")),
    "nested": dump({"a": [(1, Gadget(os.system, "true"))]}),
    "protocol 0": dump(Gadget(os.system, "true"), 0),
    "protocol 2": dump(Gadget(os.system, "true"), 2),
    "instance": dump(SimpleNamespace(a=1)),
    "class": dump(deque),
    "copyreg": by_hand(call(name("copyreg", "__newobj__"), name("os", "system"))),
    "numpy.load": by_hand(call(name("numpy", "load"), text("file"))),
    "numpy.f2py": by_hand(call(name("numpy.f2py", "compile"), text("end"))),
    "numpy runstring": by_hand(
        call(name("numpy.testing._private.utils", "runstring"), text("import os"), b"}")
    ),
    "numpy's import": by_hand(name("numpy._core.multiarray", "os")),
    "numpy.core": by_hand(name("numpy.core.multiarray", "scalar")),
    "numpy's memory": by_hand(name("numpy.lib.stride_tricks", "as_strided")),
    "torch": by_hand(name("torch._utils", "_rebuild_tensor_v2")),
    "dotted": by_hand(name("collections", "OrderedDict.__init__.__globals__")),
    "dotted class": by_hand(name("numpy", "dtype.__class__")),
    "dotted module": by_hand(name("numpy._core", "multiarray.scalar")),
    "GLOBAL": b"cos\nsystem\n(S'true'\ntR.",
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "memo": by_hand(text("os") + b"\x94" + text("system") + b"\x940h\x00h\x01\x93"),
    "persistent": persistent(),
    "persistent, protocol 0": b"Pelsewhere\n.",
    "extension": b"\x80\x02\x82\x01.",
    "out of band": b"\x80\x05\x97.",
    "objects": dump(objects()),
    "strings": dump(np.array(["a"])),
    "structured": dump(np.zeros(1, [("a", "f4")])),
    "object dtype": by_hand(call(name("numpy", "dtype"), text("O8"))),
    "object scalar": by_hand(
        call(name("numpy._core.multiarray", "scalar"), name("numpy", "dtype"), b"N")
    ),
    "state of a constructor": by_hand(name("numpy", "dtype") + b"}" + text("a") + b"K\x01sb"),
    "constructor as a value": by_hand(name("numpy", "ndarray")),
    "constructor as a key": by_hand(b"}" + name("numpy", "ndarray") + b"K\x01s"),
    "dtype as a value": by_hand(DTYPE),
    "array without bytes": by_hand(call(name("numpy", "ndarray"), b"K\x01\x85")),
    "flags of a dtype": by_hand(
        DTYPE + b"(K\x03" + text("|") + b"NN" + b"}" + b"K\x08K\x01K\x3ft" + b"b"
    ),
}


@pytest.mark.parametrize("key", list(NAMED))
def test_everything_else_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it ran"))
    copyreg.add_extension("posix", "system", 1)
    try:
        with pytest.raises(ForeignPickleError) as refusal:
            load(NAMED[key])
    finally:
        copyreg.remove_extension("posix", "system", 1)
    assert "\n" not in str(refusal.value)


def test_the_error_names_what_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pkl"
    path.write_bytes(NAMED["os.system"])
    with pytest.raises(ForeignPickleError, match=rf"{path}: it names posix\.system, which is not"):
        load_plain_file(path)
    with pytest.raises(FileNotFoundError):
        load_plain_file(tmp_path / "none.pkl")


def ordered_dict_with(attribute: str) -> bytes:
    """BUILD with attributes: what shadows a method must not survive."""
    state = b"}" + text(attribute) + b"K\x01s"
    return by_hand(call(name("collections", "OrderedDict")) + state + b"b")


def test_attributes_do_not_survive() -> None:
    loaded = load(ordered_dict_with("items"))
    assert type(loaded) is OrderedDict and not vars(loaded) and list(loaded.items()) == []


def array_of(shape: bytes, dtype: bytes = DTYPE, raw: bytes = b"C\x08" + 8 * b"\0") -> bytes:
    return by_hand(call(name("numpy._core.numeric", "_frombuffer"), raw, dtype, shape, text("C")))


DAMAGED = {
    "empty": b"",
    "no pickle": b"PK\x03\x04 something else",
    "truncated": dump(ARRAYS["float32"])[:-30],
    "cut in a frame": dump(list(range(1000)))[:200],
    "no STOP": dump([1, 2])[:-1],
    "unhashable": by_hand(b"}]K\x01s"),
    "memo of 2^31": by_hand(b"Nr\xff\xff\xff\x7f"),
    "memo, protocol 0": b"Np2000000000\n.",
    "length of 2^60": by_hand(b"\x8e" + (2**60).to_bytes(8, "little")),
    "shape too large": array_of(b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85"),
    "negative shape": array_of(b"J\xff\xff\xff\xff\x85"),
    "shape of a float": array_of(b"G" + 8 * b"\0" + b"\x85"),
    "two bytes for a number": by_hand(
        call(name("numpy._core.multiarray", "scalar"), DTYPE, b"C\x02\0\0")
    ),
    "attributes of an array": by_hand(
        array_of(b"K\x02\x85")[2:-1] + b"}" + text("shape") + b"K\x09sb"
    ),
    "deep": by_hand(10_000 * b"]" + 9_999 * b"a"),
    "stack": by_hand(b"R"),
}


@pytest.mark.parametrize("key", list(DAMAGED))
def test_damage_is_one_clear_error(key: str) -> None:
    with pytest.raises(ValueError, match="damaged") as refusal:
        load(DAMAGED[key])
    assert "\n" not in str(refusal.value) and not isinstance(refusal.value, ForeignPickleError)


def test_sharing_costs_no_memory() -> None:
    value: list[Any] = []
    for _ in range(60):  # 2^60 entries, were they copied
        value = [value, value]
    loaded = load(dump(value))
    assert loaded[0] is loaded[1]


def test_constructors_are_not_changed() -> None:
    before = dict(plain_pickle._CONSTRUCTORS)
    for data in NAMED.values():
        with pytest.raises(ForeignPickleError):
            load(data)
    assert before == plain_pickle._CONSTRUCTORS
    np.testing.assert_array_equal(load(dump(ARRAYS["strided"])), ARRAYS["strided"])
