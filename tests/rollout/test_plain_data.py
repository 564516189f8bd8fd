"""Whatever is reduced to plain data is loaded again."""

from __future__ import annotations

import enum
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rllib_fmq.checkpointing.plain_pickle import load_plain
from rllib_fmq.rollout.plain_data import plain


class Number(enum.IntEnum):
    ONE = 1


class Text(str, enum.Enum):
    A = "a"


class Words(str):
    def __str__(self) -> str:
        return "something else"


def loaded(value: Any) -> Any:
    return load_plain(io.BytesIO(pickle.dumps(plain(value))))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.sampled_from([Number.ONE, Text.A, Words("x"), object(), np.datetime64("2020-01-01")])
    | arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, min_side=0, max_side=3))
    | arrays.arrays(arrays.scalar_dtypes(), 1).map(lambda array: array[0])
)
values = st.recursive(
    leaves,
    lambda part: (
        st.lists(part, max_size=3)
        | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just(Words("k")), part)
        | part.map(lambda value: np.array([value, None], dtype=object)[:1])
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(values)
def test_what_is_plain_is_loaded_again(value: Any) -> None:
    assert repr(loaded({"x": value})) == repr(plain({"x": value}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Number.ONE, 1),
        (Text.A, "a"),
        (Words("x"), "x"),
        (np.array(["a", "bc"]), ["a", "bc"]),
        (np.array("cube"), "cube"),
        (np.array([b"a"]), [b"a"]),
        (np.str_("a"), "a"),
        (np.longdouble(2), 2.0),
        ([1j, np.complex64(1j), np.array([1j])], [None, None, [None]]),
        (np.array({"a": 1}, dtype=object), {"a": 1}),
        (torch.ones(2, dtype=torch.bfloat16).requires_grad_().tolist(), [1.0, 1.0]),
    ],
    ids=repr,
)
def test_values(value: Any, expected: Any) -> None:
    got = loaded(value)
    assert got == expected and type(got) is type(expected)


def test_tensors_that_numpy_does_not_have() -> None:
    assert loaded(torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).tolist() == [1.0, 1.0]


def test_an_info_that_holds_itself_ends() -> None:
    info: dict[str, Any] = {"a": 1}
    info["self"] = info
    assert loaded(info)["self"]["self"]["a"] == 1
