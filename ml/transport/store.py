"""Array files of a set index: .npy files written beside, synced and renamed, with length and CRC-32 kept in a header that comes last.

A folder whose header is there is complete: the header is written when everything else lies on the disk.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ml.transport.errors import TransportError

HEADER = "header.json"
CHECKED_AT_OPEN = 16 * 2**20
_CHUNK = 8 * 2**20
Facts = dict[str, int]


class ArrayFile:
    """An .npy file that grows row by row; `close` gives its facts: {"bytes": whole length, "crc": CRC-32 of what follows numpy's header}.

    row: shape of one row, () for a vector. Until `close` only `<name>.new` exists.
    """

    def __init__(self, path: Path, dtype: DTypeLike, row: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.row = path, np.dtype(dtype), row
        self.rows, self.crc = 0, 0
        self.file: BinaryIO = self.new.open("wb")  # open until `close` or `discard`
        self.start = self._head()

    @property
    def new(self) -> Path:
        """Where it is written."""
        return self.path.with_name(self.path.name + ".new")

    def _head(self) -> int:
        self.file.seek(0)
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.rows, *self.row)}
        np.lib.format.write_array_header_1_0(self.file, facts)
        return self.file.tell()

    def append(self, values: NDArray[Any]) -> None:
        """Rows (n, *row) at the end."""
        block = np.ascontiguousarray(values, dtype=self.dtype)
        assert block.shape[1:] == self.row
        data = block.reshape(-1).view(np.uint8).data
        self.crc = zlib.crc32(data, self.crc)
        self.file.write(data)
        self.rows += len(block)

    def flush(self) -> NDArray[Any]:
        """What was appended so far, as a read-only memory map."""
        self.file.flush()
        if not self.rows:
            return np.zeros((0, *self.row), self.dtype)
        return np.memmap(self.new, self.dtype, "r", self.start, (self.rows, *self.row))

    def discard(self) -> None:
        """Given up: nothing of it stays."""
        self.file.close()
        self.new.unlink(missing_ok=True)

    def close(self) -> Facts:
        """Number of rows into numpy's header (it keeps room for it), to the disk, and into place."""
        length = self.file.seek(0, os.SEEK_END)
        assert self._head() == self.start
        sync(self.file)
        self.file.close()
        self.new.replace(self.path)
        return {"bytes": length, "crc": self.crc}


def sync(file: BinaryIO) -> None:
    """Flushed and on the disk."""
    file.flush()
    os.fsync(file.fileno())


def write_array(path: Path, values: NDArray[Any]) -> Facts:
    """A whole array as one file."""
    file = ArrayFile(path, values.dtype, values.shape[1:])
    file.append(values)
    return file.close()


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """The header, last, and the folder's entries with it. Raises OSError."""
    path = folder / HEADER
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        file.write(json.dumps(header, indent=1).encode())
        sync(file)
    new.replace(path)
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def broken(path: Path, what: str) -> TransportError:
    """The refusal of a damaged file."""
    sentence = f"The file {path.name} of the set index {what}."
    return TransportError("index_broken", sentence, "Build the index again from the stored niche sets.", path.name)


def read_header(folder: Path) -> dict[str, Any]:
    """The header of an index. Raises TransportError: index_missing, index_broken."""
    path = folder / HEADER
    try:
        header = json.loads(path.read_bytes())
    except FileNotFoundError:
        sentence = f"There is no complete set index in the folder {folder.name}."
        raise TransportError("index_missing", sentence, "Build it; an interrupted build leaves no header.", folder.name) from None
    except (OSError, ValueError):
        raise broken(path, "cannot be read") from None
    if not isinstance(header, dict):
        raise broken(path, "is no header")
    return header


def read_array(path: Path, facts: Facts, dtype: DTypeLike) -> NDArray[Any]:
    """A read-only memory map of a file of the right length and type; files up to 16 MiB are compared with their CRC-32, too.

    Raises TransportError (index_broken).
    """
    try:
        length = path.stat().st_size
    except OSError:
        raise broken(path, "is not there") from None
    if length != facts["bytes"]:
        raise broken(path, f"has {length:,} bytes where {facts['bytes']:,} were written")
    if length <= CHECKED_AT_OPEN:
        check(path, facts)
    try:
        # an array without rows cannot be mapped
        values: NDArray[Any] = np.load(path, mmap_mode="r" if length > 128 else None)
    except (OSError, ValueError):
        raise broken(path, "cannot be read") from None
    if values.dtype != np.dtype(dtype):
        raise broken(path, f"holds {values.dtype} where {np.dtype(dtype)} was written")
    return values.view(np.ndarray)  # a plain view: slicing a memmap object costs ten times as much


def check(path: Path, facts: Facts) -> None:
    """Raises TransportError (index_broken) where the content differs from what was written."""
    crc = 0
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while block := file.read(_CHUNK):
                crc = zlib.crc32(block, crc)
    except (OSError, ValueError):
        raise broken(path, "cannot be read") from None
    if crc != facts["crc"]:
        raise broken(path, "is not what was written: its checksum differs")


def link(source: Path, target: Path) -> None:
    """The same file under another name: linked where the file system can, otherwise copied. A finished file is never written to again."""
    import shutil

    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        new = target.with_name(target.name + ".new")
        shutil.copyfile(source, new)
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        new.replace(target)
