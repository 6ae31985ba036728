"""Pickles from strangers: only those that consist of lists, dicts, numbers and strings are read."""

import io
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

PLAIN = set(
    """MARK STOP POP POP_MARK DUP PROTO FRAME NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM
    SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE
    GET BINGET LONG_BINGET""".split()
)
NAMES_A_CLASS = {"GLOBAL", "INST", "STACK_GLOBAL"}  # the unpickler refuses these with the name


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a refs file never needs")


def load_plain(content: bytes) -> Any:
    """What a pickle holds, without running anything that a hostile one may ask for.

    Python 2 wrote the published files: strings that are not ASCII are read as latin1.

    Raises:
        Exception: of nearly every kind where the pickle is damaged; UnpicklingError where it asks
            for a class or function, or for more memory than its values take.
    """
    for opcode, argument, _ in _opcodes(io.BytesIO(content)):
        if opcode.name in NAMES_A_CLASS:
            break
        if opcode.name not in PLAIN:
            raise pickle.UnpicklingError(f"{opcode.name} is in it, which a refs file never needs")
        # A value's place in a table: the unpickler makes the table that large.
        if opcode.name in ("PUT", "LONG_BINPUT") and argument > len(content):
            raise pickle.UnpicklingError(f"it asks for a table of {argument:,} places")
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="ASCII").load()
    except UnicodeDecodeError:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def _opcodes(file: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """pickletools.genops, which stops behind a text of Python 2 that is not ASCII: go on there."""
    while True:
        try:
            yield from pickletools.genops(file)
            return
        except UnicodeDecodeError:
            continue
