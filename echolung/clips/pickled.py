"""A pickle that holds a dictionary of integer arrays, read without running it: its instructions are followed, never executed."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from echolung.errors import InputError


class RefusedError(Exception):
    """The pickle asks for something that a dictionary of integer arrays does not need."""


@dataclass(frozen=True)
class Name:
    """What a pickle would import. Nothing is imported."""

    text: str


@dataclass
class Dtype:
    """A data type, as "i8", and its byte order."""

    code: str
    order: str = "="


@dataclass
class Array:
    """An array whose parts may still come."""

    shape: tuple[int, ...] = ()
    dtype: Dtype | None = None
    data: bytes = b""


def read_arrays(path: Path) -> dict[str, Int[np.ndarray, " n"]]:
    """Return the dictionary {text: one-dimensional array of integers} that `pickle` would make of the file.

    Raises:
        InputError: the file holds, or would run, anything else.
    """
    try:
        found = _follow(path.read_bytes())
        if not isinstance(found, dict):
            raise RefusedError(f"it holds a {type(found).__name__}")
        return {_text(name): _finished(array) for name, array in found.items()}
    except RefusedError as error:
        reason = str(error)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"it is damaged, or no pickle ({' '.join(str(error).split())[:100]})"
    raise InputError(
        f"{path.name} was not read: {reason}. A pickle can run any program, so only a dictionary of one-dimensional integer "
        "arrays is read from one (as CoReEcho's test_start_indexes.pkl), without running it. Write a CSV or a JSON instead."
    )


MARK = object()


@dataclass
class Machine:
    """What a pickle has put together so far: its stack, and what it keeps by number."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        """Take the last `count` values."""
        if len(self.stack) < count:
            raise RefusedError("it is damaged: its stack is too short")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> tuple[Any, ...]:
        """Take the values since the last mark, and the mark."""
        place = max((i for i, value in enumerate(self.stack) if value is MARK), default=-1)
        if place < 0:
            raise RefusedError("it is damaged: a mark is missing")
        return self.pop(len(self.stack) - place)[1:]

    def keep(self, number: int) -> None:
        """Keep the last value by a number."""
        self.memo[number] = self.stack[-1]

    def call(self, function: Any, arguments: tuple[Any, ...]) -> None:
        """Put on the stack what `CALLS` has in the place of a function."""
        if not isinstance(function, Name) or function.text not in CALLS:
            raise RefusedError("it calls what is no function of NumPy's arrays")
        self.push(CALLS[function.text](*arguments))


STEPS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG1", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"), Machine.push
    ),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8"), Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(MARK),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(machine.pop(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.pop(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.pop(3)),
    "TUPLE": lambda machine, _: machine.push(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.push(_filled({}, machine.pop_to_mark())),
    "SETITEM": lambda machine, _: machine.push(_filled(*_last(machine, machine.pop(2)))),
    "SETITEMS": lambda machine, _: machine.push(_filled(*_last(machine, machine.pop_to_mark()))),
    "MEMOIZE": lambda machine, _: machine.keep(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, number: machine.keep(int(number))),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, number: machine.push(machine.memo[int(number)])),
    "GLOBAL": lambda machine, text: machine.push(_known(text)),
    "STACK_GLOBAL": lambda machine, _: machine.push(_known("{} {}".format(*machine.pop(2)))),
    "REDUCE": lambda machine, _: machine.call(*machine.pop(2)),
    "BUILD": lambda machine, _: machine.push(_built(*machine.pop(2))),
}
"""Instruction -> what is done for it, given its argument; there are no others."""


def _follow(content: bytes) -> Any:
    """Return what is on the stack when the instructions end."""
    machine = Machine()
    for code, argument, _ in pickletools.genops(content):
        if code.name == "STOP":
            return machine.pop(1)[0]
        if code.name not in STEPS:
            raise RefusedError(f"it has the instruction {code.name}")
        STEPS[code.name](machine, argument)
    raise RefusedError("it is damaged: it does not end")


def _last(machine: Machine, values: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    return machine.pop(1)[0], values


def _known(text: str) -> Name:
    if text not in CALLS and text != "numpy ndarray":
        raise RefusedError(f"it would import {text.replace(' ', '.')[:80]}")
    return Name(text)


def _filled(value: Any, items: tuple[Any, ...]) -> dict[Any, Any]:
    """Return the dictionary itself with keys and values in turn put into it."""
    if not isinstance(value, dict):
        raise RefusedError("it fills something other than a dictionary")
    value.update(zip(items[::2], items[1::2], strict=True))
    return value


def _built(value: Any, state: Any) -> Any:
    """Return the array or data type itself with its state, as their __setstate__ set it."""
    if isinstance(value, Dtype):
        value.order = state[1]
    elif isinstance(value, Array):
        _, value.shape, value.dtype, _, data = state
        value.data = bytes(_bytes(data))
    else:
        raise RefusedError("it sets the state of something other than an array")
    return value


def _bytes(value: Any) -> bytes | bytearray:
    if not isinstance(value, bytes | bytearray):
        raise RefusedError(f"an array's data are of type {type(value).__name__}")
    return value


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError("it encodes something other than bytes")
    return text.encode("latin1")


def _from_buffer(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    return Array(shape, dtype, bytes(_bytes(data)))


CALLS: dict[str, Callable[..., Any]] = {
    "_codecs encode": _encode,
    "numpy dtype": lambda code, *_: Dtype(code),
    **{f"numpy.{core}.multiarray _reconstruct": lambda *_: Array() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _from_buffer for core in ("core", "_core")},
}
"""What a pickle may call, and what is done instead: the names that NumPy writes (versions 1 and 2, protocols 0 to 5)."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusedError(f"a key is of type {type(value).__name__}")
    return value


def _finished(array: Any) -> Int[np.ndarray, " n"]:
    if not isinstance(array, Array) or array.dtype is None:
        raise RefusedError(f"a value is of type {type(array).__name__}")
    if not isinstance(array.dtype, Dtype) or array.dtype.code not in ("i8", "i4") or array.dtype.order not in "<>=|":
        raise RefusedError("an array is not of integers")
    values = np.frombuffer(array.data, np.dtype(array.dtype.order + array.dtype.code))
    if array.shape != (len(values),):
        raise RefusedError(f"an array has the shape {array.shape}")
    return values.astype(np.int64)
