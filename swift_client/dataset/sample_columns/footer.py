"""Numbers of values of the columns of a Parquet file, from its footer.

``pyarrow`` reads them as well, but ends the process if the statistics beside them are wrong. The footer is a structure
of Thrift's compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TAIL_BYTES = 8  # the length of the footer, and the letters PAR1
# Types of values, and fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_ROW_GROUPS, _COLUMNS, _META_DATA, _PATH, _NUM_VALUES = 4, 1, 3, 3, 5


def count_values(source: Any) -> list[dict[str, int]]:
    """Return per row group the most values that a part of each column has, by the column's name.

    Args:
        source: the file, open as a ``pyarrow.NativeFile``.

    Raises:
        ValueError, IndexError, RecursionError: the footer is damaged.
    """
    size = source.size()
    tail = source.read_at(_TAIL_BYTES, size - _TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length + _TAIL_BYTES > size:
        raise ValueError("its footer is damaged")
    reader = _Reader(source.read_at(length, size - _TAIL_BYTES - length))
    row_groups: list[dict[str, int]] = []
    for _ in reader.structures_of(_ROW_GROUPS):
        values: dict[str, int] = {}
        for _ in reader.structures_of(_COLUMNS):
            for _ in reader.enter(_META_DATA):
                name, number = reader.read_column()
                values[name] = max(number, values.get(name, 0))
        row_groups.append(values)
    return row_groups


class _Reader:
    """A place in a structure, from which one value after the other is read."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def structures_of(self, field: int) -> Iterator[None]:
        """Stop at each structure of a list, which the caller reads, and read the rest of the structure around it."""
        for number, kind in self._fields():
            if number != field or kind != _LIST:
                self._skip(kind)
                continue
            length, item = self._list_header()
            for _ in range(length):
                if item != _STRUCT:
                    raise ValueError("its footer has a list of another type")
                yield

    def enter(self, field: int) -> Iterator[None]:
        """Stop at a structure, which the caller reads, and read the rest of the structure around it."""
        for number, kind in self._fields():
            if number == field and kind == _STRUCT:
                yield
            else:
                self._skip(kind)

    def read_column(self) -> tuple[str, int]:
        """Return the first part of a column's path, and its number of values."""
        name, values = "", -1
        for number, kind in self._fields():
            if number == _PATH and kind == _LIST:
                parts = [self._bytes() for _ in range(self._list_header()[0])]
                name = parts[0].decode() if parts else ""
            elif number == _NUM_VALUES:
                values = self._signed()
            else:
                self._skip(kind)
        if values < 0:
            raise ValueError("its footer does not count the values of a column")
        return name, values

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Yield the number and type of each field of a structure; the caller reads its value."""
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._signed()
            yield number, header & 15

    def _list_header(self) -> tuple[int, int]:
        header = self._byte()
        length = self._unsigned() if header >> 4 == 15 else header >> 4
        if length > len(self._data):
            raise ValueError("its footer has a list that is longer than itself")
        return length, header & 15

    def _skip(self, kind: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind in (_BYTE, _DOUBLE):
            self._place += 1 if kind == _BYTE else 8
        elif kind == _BINARY:
            self._bytes()
        elif kind in (_LIST, _SET):
            length, item = self._list_header()
            for _ in range(length):
                self._skip(_BYTE if item in (_TRUE, _FALSE) else item)
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner)
        elif kind == _MAP:
            raise ValueError("its footer has a map")
        else:
            self._unsigned()

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _bytes(self) -> bytes:
        length = self._unsigned()
        self._place += length
        return self._data[self._place - length : self._place]

    def _unsigned(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 127) << shift
            if byte < 128:
                return result
            shift += 7

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
