"""The pickles inside PyTorch files, read by an interpreter that cannot execute anything.

Python's own unpickler calls whatever a file names. This one has no way to call: it knows the few
instructions that build dictionaries, lists and numbers, and the handful of names with which PyTorch
describes a tensor. Everything else is refused by name.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, Any, Protocol, cast

from jaxstyle.types import InputError

# NumPy's names; bfloat16 is the upper half of a float32.
STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_MOST_INSTRUCTIONS = 3_000_000  # some thirty per tensor; this takes seconds


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers somewhere in the file.

    Attributes:
      key: its name in the file.
      kind: NumPy's name of the numbers, or 'bfloat16'.
      size: how many there are.
    """

    key: str
    kind: str
    size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as a pickle describes it; nothing is checked against the storage yet.

    Attributes:
      storage: where its numbers are.
      offset: of the first one, in numbers.
      shape: of the tensor.
      strides: from one number to the next along each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


class Stream(Protocol):
    """What a pickle is read from; a length it cannot give must not cost memory."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        ...

    def readline(self) -> bytes:
        """Return up to the next end of line."""
        ...


def parse(stream: Stream) -> Any:
    """Read one pickle, up to its end, and leave the stream behind it.

    Args:
      stream: a file or the like.

    Returns:
      Dictionaries, lists, tuples, numbers, texts and `Tensor`s.

    Raises:
      InputError: for a name or an instruction that no tensor needs, naming it; starts with a verb,
        the file is to be named before it.
      ValueError: and whatever else `pickletools` raises, for what is no pickle or a part of one.

    Example:
      >>> import io, pickle
      >>> parse(io.BytesIO(pickle.dumps({'epoch': 3})))
      {'epoch': 3}
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
        if count > _MOST_INSTRUCTIONS:
            raise InputError("holds an absurdly long pickle; give a file with a state dict.")
        action = _ACTIONS.get(opcode.name)
        if action is None:
            raise InputError(
                f"uses the pickle instruction {opcode.name}, which no tensor needs; nothing was "
                f"executed: {_REMEDY}"
            )
        action(machine, argument)
    return machine.pop()


_REMEDY = (
    "give a file from a source you trust with nothing but a state dict, as "
    "torch.save(model.state_dict(), FILE) writes it."
)


class _Machine:
    """The stack and the memory of a pickle being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self.copied = 0  # items

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("a pickle that takes more than it has")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"a pickle that fills no {kind.__name__}")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        if not self.outer:
            raise ValueError("a pickle without a mark")
        items, self.stack = self.stack, self.outer.pop()
        return items


def _mark(machine: _Machine, _: Any) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _constant(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


def _gathered(make: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    def act(machine: _Machine, _: Any) -> None:
        items = machine.since_mark()
        machine.stack.append(make(items))

    return act


def _short_tuple(length: int) -> Callable[[_Machine, Any], None]:
    def act(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(length)]
        machine.stack.append(tuple(reversed(items)))

    return act


def _remember(machine: _Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.top(object)


def _recall(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError("a pickle that recalls what it never had")
    machine.stack.append(machine.memo[index])


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    machine.top(list).append(item)


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.top(list).extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _fill(machine.top(dict), [key, value])


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    _fill(machine.top(dict), items)


def _fill(mapping: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        small = isinstance(key, int) and -(2**63) <= key < 2**63
        if not small and not isinstance(key, str | float | bytes | None):
            raise ValueError("a pickle with a key that is neither text nor number")
        mapping[key] = value
    return mapping


def _named(machine: _Machine, name: str) -> None:
    """Take a name of Python's if it belongs to a tensor's description."""
    name = name.replace("__builtin__.", "builtins.")  # as Python 2 called it
    if name not in _BUILDERS and name not in STORAGES:
        raise InputError(
            f"asks for {name:.80}, and reading weights never runs code: nothing was executed; "
            f"{_REMEDY}"
        )
    machine.stack.append(_Global(name))


def _global(machine: _Machine, argument: str) -> None:
    _named(machine, argument.replace(" ", ".", 1))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    _named(machine, f"{module}.{name}" if isinstance(module, str) else "a name that is no text")


def _build(machine: _Machine, _: Any) -> None:
    """Attributes of a dictionary or tensor (versions, hooks) mean nothing to us."""
    machine.pop()
    machine.top(object)


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    builder = _BUILDERS.get(what.name) if isinstance(what, _Global) else None
    if builder is None or not isinstance(arguments, tuple):
        raise ValueError("a pickle that calls what cannot be called")
    # The same long list may be given again and again.
    machine.copied += sum(len(a) for a in arguments if isinstance(a, list | tuple | dict))
    if machine.copied > _MOST_INSTRUCTIONS:
        raise InputError("holds an absurdly long pickle; give a file with a state dict.")
    machine.stack.append(builder(*arguments))


def _persistent(machine: _Machine, _: Any) -> None:
    """A storage: its type, name, device, length and, in old files, the part that is meant."""
    given = machine.pop()
    if not isinstance(given, tuple) or len(given) not in (5, 6) or given[0] != "storage":
        raise ValueError("a reference that is no storage")
    _, kind, key, _, size, *view = given
    known = isinstance(kind, _Global) and kind.name in STORAGES
    if not known or not isinstance(key, str) or not _is_count(size):
        raise ValueError("a storage without a type, a name or a length")
    storage = Storage(key, STORAGES[kind.name], size)
    if view and view[0] is not None:
        raise InputError(
            "has storages that are parts of others, which only old versions of PyTorch wrote; load "
            "and save it with a new one."
        )
    machine.stack.append(storage)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    axes = [*shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else [None]
    counts = [offset, *axes]
    if not isinstance(storage, Storage) or not all(_is_count(n) for n in counts):
        raise ValueError("a tensor whose shape is no list of lengths")
    if len(shape) != len(strides) or len(shape) > 16:
        raise ValueError("a tensor with more strides than axes")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter that is no tensor")
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dictionary of other things than pairs")
    return _fill({}, [part for pair in pairs for part in pair])


def _size(lengths: Any = ()) -> tuple[Any, ...]:
    return tuple(lengths)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
}

_VALUES = (
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8"
)
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES.split(), _push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "MARK": _mark,
    "DICT": _gathered(lambda items: _fill({}, items)),
    "LIST": _gathered(list),
    "TUPLE": _gathered(tuple),
    "TUPLE1": _short_tuple(1),
    "TUPLE2": _short_tuple(2),
    "TUPLE3": _short_tuple(3),
    "POP": lambda machine, _: None if machine.pop() is None else None,
    "POP_MARK": lambda machine, _: None if machine.since_mark() else None,
    "DUP": lambda machine, _: machine.stack.append(machine.top(object)),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GLOBAL": _global,
    "INST": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
