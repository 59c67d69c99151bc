"""Files that are either whole or absent, and their checksums."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_MODE = 0o640  # a web server of the same group may send it; nobody else reads it


@contextmanager
def whole_file(target: str | Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `target`; after the block it is synced and renamed, or removed if the block failed.

    durable False leaves the syncing to the system: a killed process loses nothing, a power cut may. For what is checked when it is read.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(FILE_MODE)
        if durable:
            _sync(part)
        os.replace(part, target)
        if durable:
            _sync(target.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
