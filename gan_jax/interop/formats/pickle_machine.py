"""A machine for the opcodes of pickles that runs nothing, with bounds on all that a file can ask.

Python's own unpickler would do for files of friends. It hashes whatever a file takes as a key, and
a pair of a pair of a pair … has 2^60 parts in a few hundred bytes; it allocates what is announced;
and deep nesting overflows its stack. This one only knows plain values, and what its owner gives it
by name. Keys are plain values, and what calls make is weighed against the length of the file.
https://github.com/python/cpython/blob/main/Lib/pickletools.py describes the opcodes.
"""

import codecs
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

MOST_OPCODES = 2**20  # real files have some hundred per array
MOST_MARKS = 500  # containers that are open at the same time
LONGEST_LINE = 2**16  # bytes of an argument in text
GROWTH = 8  # how many times more bytes calls may make than the file has
ANY_GROWTH = 2**20  # bytes that calls may make in any case
LARGEST_KEY = 2**60
PLAIN = (str, int, float, bool, bytes, type(None))  # what can be a key
_BLOCK = 2**16  # bytes that are read ahead


class Inert:
    """Base of what a pickle may hold: the pickle cannot change anything in it."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"it sets attributes of a {type(self).__name__}")


class Function(Inert):
    """Represents a function: an instance, since a pickle could alter a function."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class Stateful:
    """Base of containers that a pickle may fill and give a state."""


def key_of(value: Any) -> Any:
    """The value. Raises ValueError unless it is plain: hashing anything else might never end."""
    if type(value) not in PLAIN:
        raise ValueError(f"it has a {type(value).__name__} as key")
    if type(value) is int and abs(value) >= LARGEST_KEY:  # such numbers may all have one hash
        raise ValueError("it has a large number as key")
    return value


class _Reader:
    """The bytes of a stream as opcodes take them, never more than there are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, start = file, file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(start)
        self._data, self._at = b"", 0

    def left(self) -> int:
        return len(self._data) - self._at + self._end - self._file.tell()

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            self._fill(count)
            end = count
        found = self._data[self._at : end]
        self._at = end
        return found

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def counted(self, form: str) -> bytes:
        """As many bytes as the number before them says."""
        return self.take(self.number(form))

    def line(self) -> bytes:
        """The bytes up to the end of the line, without it."""
        stop = self._data.find(b"\n", self._at)
        if stop < 0:
            self._fill(min(LONGEST_LINE, self.left()))
            stop = self._data.find(b"\n", 0, LONGEST_LINE)
        if not 0 <= stop - self._at < LONGEST_LINE:
            raise ValueError("a line in it does not end")
        found = self.take(stop - self._at)
        self._at += 1
        return found

    def give_back(self) -> None:
        """Sets the stream's position to just after what was taken."""
        self._file.seek(self._at - len(self._data), os.SEEK_CUR)

    def _fill(self, count: int) -> None:
        """Reads ahead until at least `count` bytes are there."""
        if count > self.left():
            raise ValueError("it ends too early")
        kept = self._data[self._at :]
        self._data = kept + self._file.read(max(count - len(kept), _BLOCK))
        self._at = 0


class Machine:
    """Reads one pickle. A subclass says what names and references mean, and what a value weighs."""

    def __init__(self, length: int) -> None:
        """`length`: of the file in bytes."""
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}
        self._left = GROWTH * length + ANY_GROWTH

    def find(self, module: str, name: str) -> Any:
        """What a name stands for: a Function, a subclass of Inert without arguments, or a value."""
        raise ValueError(f"it asks for {module}.{name}")

    def refer(self, pid: Any) -> Any:
        """What a reference to something outside the pickle stands for."""
        raise ValueError("it refers to something outside")

    def weight(self, value: Any) -> int:
        """The bytes in a value that a call has made, roughly."""
        if isinstance(value, (bytes, bytearray, str)):
            return len(value)
        return 8 * len(value) if isinstance(value, (list, tuple, dict, set)) else 0

    def load(self, file: BinaryIO) -> Any:
        """Reads one pickle from a seekable stream, leaving the position just after it.

        Raises ValueError for a pickle that is damaged or exceeds a bound; what `find`, `refer` and
        functions raise passes through.
        """
        self._reader = _Reader(file)
        take = self._reader.take
        try:
            for _ in range(MOST_OPCODES):
                code = take(1)
                if code == pickle.STOP:
                    self._reader.give_back()
                    return self._pop()
                if code not in _STEPS:
                    raise ValueError(f"it holds the opcode 0x{code.hex()}, which no array needs")
                _STEPS[code](self)
        except IndexError:
            raise ValueError("an opcode lacks its operands") from None
        raise ValueError(f"it has more than {MOST_OPCODES:,} opcodes")

    # ---------------------------------------------------------------- stack and memo

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        return self._stack.pop()

    def _mark(self) -> None:
        if len(self._below) == MOST_MARKS:
            raise ValueError("it is nested too deeply")
        self._below.append(self._stack)
        self._stack = []

    def _above_mark(self) -> list[Any]:
        found, self._stack = self._stack, self._below.pop()
        return found

    def _drop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._above_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise ValueError("a tuple lacks parts")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _text(self, raw: bytes, encoding: str = "utf-8") -> None:
        self._push(raw.decode(encoding))

    def _keep(self, number: int | None = None) -> None:
        number = len(self._memo) if number is None else number
        if not 0 <= number <= MOST_OPCODES:
            raise ValueError(f"memo entry {number} comes too early")
        self._memo[number] = self._stack[-1]

    def _recall(self, number: int) -> None:
        if number not in self._memo:
            raise ValueError(f"memo entry {number} is missing")
        self._push(self._memo[number])

    # ---------------------------------------------------------------- containers

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key_of(key)] = value

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise ValueError(f"it adds to a {type(target).__name__}")
        target.update(map(key_of, items))

    def _dict(self) -> None:
        items = self._above_mark()
        self._push({})
        self._update(items)

    def _item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    # ---------------------------------------------------------------- what has a name

    def _named(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name is no text")
        self._push(self.find(module, name))

    def _named_in_lines(self) -> None:
        self._named(self._reader.line().decode(), self._reader.line().decode())

    def _named_on_stack(self) -> None:
        name, module = self._pop(), self._pop()
        self._named(module, name)

    def _call(self, function: Any, args: Any) -> None:
        if not isinstance(function, Function) or type(args) is not tuple:
            raise ValueError(f"it calls a {type(function).__name__}")
        self._made(function(*args))

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        self._call(function, args)

    def _instance(self, kind: Any, args: Any) -> None:
        if not isinstance(kind, type) or not issubclass(kind, Inert) or args != ():
            raise ValueError("it makes an instance of something that is no class")
        self._made(kind())

    def _new(self) -> None:
        args, kind = self._pop(), self._pop()
        self._instance(kind, args)

    def _object(self) -> None:
        kind, *args = self._above_mark()
        self._made_of(kind, args)

    def _named_object(self) -> None:
        args = self._above_mark()
        self._named_in_lines()
        self._made_of(self._pop(), args)

    def _made_of(self, kind: Any, args: list[Any]) -> None:
        make = self._call if isinstance(kind, Function) else self._instance
        make(kind, tuple(args))

    def _build(self) -> None:
        state = self._pop()
        target = self._stack[-1]
        if not isinstance(target, (Inert, Stateful)):
            raise ValueError(f"it sets attributes of a {type(target).__name__}")
        target.__setstate__(state)
        self._weigh(target)

    def _made(self, value: Any) -> None:
        self._weigh(value)
        self._push(value)

    def _weigh(self, value: Any) -> None:
        self._left -= self.weight(value)
        if self._left < 0:
            raise ValueError("it makes far more bytes than it has")

    def _frame(self) -> None:
        if self._reader.number("<Q") > self._reader.left():
            raise ValueError("a frame in it is longer than the file")

    def _protocol(self) -> None:
        number = self._reader.number("B")
        if number > pickle.HIGHEST_PROTOCOL:
            raise ValueError(f"it has the protocol {number}")


def _whole(line: bytes) -> int | bool:
    """A whole number in text, or a bool as protocol 0 writes it."""
    return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"))


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
        raise ValueError("a text in it has no quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")


Step = Callable[[Machine], Any]
_NUMBERS: dict[bytes, Step] = {
    pickle.INT: lambda m: m._push(_whole(m._reader.line())),
    pickle.LONG: lambda m: m._push(_whole(m._reader.line())),
    pickle.FLOAT: lambda m: m._push(float(m._reader.line())),
    pickle.BININT: lambda m: m._push(m._reader.number("<i")),
    pickle.BININT1: lambda m: m._push(m._reader.number("B")),
    pickle.BININT2: lambda m: m._push(m._reader.number("<H")),
    pickle.LONG1: lambda m: m._push(pickle.decode_long(m._reader.counted("B"))),
    pickle.LONG4: lambda m: m._push(pickle.decode_long(m._reader.counted("<I"))),
    pickle.BINFLOAT: lambda m: m._push(m._reader.number(">d")),
    pickle.NONE: lambda m: m._push(None),
    pickle.NEWTRUE: lambda m: m._push(True),
    pickle.NEWFALSE: lambda m: m._push(False),
}
_TEXTS: dict[bytes, Step] = {
    pickle.STRING: lambda m: m._push(_quoted(m._reader.line())),
    pickle.UNICODE: lambda m: m._text(m._reader.line(), "raw-unicode-escape"),
    pickle.BINSTRING: lambda m: m._text(m._reader.counted("<I"), "latin1"),
    pickle.SHORT_BINSTRING: lambda m: m._text(m._reader.counted("B"), "latin1"),
    pickle.BINUNICODE: lambda m: m._text(m._reader.counted("<I")),
    pickle.SHORT_BINUNICODE: lambda m: m._text(m._reader.counted("B")),
    pickle.BINUNICODE8: lambda m: m._text(m._reader.counted("<Q")),
    pickle.BINBYTES: lambda m: m._push(m._reader.counted("<I")),
    pickle.SHORT_BINBYTES: lambda m: m._push(m._reader.counted("B")),
    pickle.BINBYTES8: lambda m: m._push(m._reader.counted("<Q")),
    pickle.BYTEARRAY8: lambda m: m._push(bytearray(m._reader.counted("<Q"))),
}
_CONTAINERS: dict[bytes, Step] = {
    pickle.EMPTY_TUPLE: lambda m: m._push(()),
    pickle.TUPLE: lambda m: m._push(tuple(m._above_mark())),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.EMPTY_LIST: lambda m: m._push([]),
    pickle.LIST: lambda m: m._push(m._above_mark()),
    pickle.APPEND: lambda m: m._extend([m._pop()]),
    pickle.APPENDS: lambda m: m._extend(m._above_mark()),
    pickle.EMPTY_DICT: lambda m: m._push({}),
    pickle.DICT: Machine._dict,
    pickle.SETITEM: Machine._item,
    pickle.SETITEMS: lambda m: m._update(m._above_mark()),
    pickle.EMPTY_SET: lambda m: m._push(set()),
    pickle.ADDITEMS: lambda m: m._add(m._above_mark()),
    pickle.FROZENSET: lambda m: m._push(frozenset(map(key_of, m._above_mark()))),
}
_STEPS: dict[bytes, Step] = {
    **_NUMBERS,
    **_TEXTS,
    **_CONTAINERS,
    pickle.PROTO: Machine._protocol,
    pickle.FRAME: Machine._frame,
    pickle.MARK: Machine._mark,
    pickle.POP: Machine._drop,
    pickle.POP_MARK: Machine._above_mark,
    pickle.DUP: lambda m: m._push(m._stack[-1]),
    pickle.PUT: lambda m: m._keep(int(m._reader.line())),
    pickle.BINPUT: lambda m: m._keep(m._reader.number("B")),
    pickle.LONG_BINPUT: lambda m: m._keep(m._reader.number("<I")),
    pickle.MEMOIZE: Machine._keep,
    pickle.GET: lambda m: m._recall(int(m._reader.line())),
    pickle.BINGET: lambda m: m._recall(m._reader.number("B")),
    pickle.LONG_BINGET: lambda m: m._recall(m._reader.number("<I")),
    pickle.GLOBAL: Machine._named_in_lines,
    pickle.STACK_GLOBAL: Machine._named_on_stack,
    pickle.REDUCE: Machine._reduce,
    pickle.NEWOBJ: Machine._new,
    pickle.OBJ: Machine._object,
    pickle.INST: Machine._named_object,
    pickle.BUILD: Machine._build,
    pickle.PERSID: lambda m: m._made(m.refer(m._reader.line().decode())),
    pickle.BINPERSID: lambda m: m._made(m.refer(m._pop())),
}
