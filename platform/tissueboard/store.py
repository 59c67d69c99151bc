"""Where files live: one class, keys inside one folder. Nothing else in the house joins paths below STORE_ROOT."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path

from django.conf import settings


class Store:
    """A folder of immutable objects. A key is a relative path such as "slides/12/working.tif"."""

    @property
    def root(self) -> Path:
        return Path(settings.STORE_ROOT)

    def path(self, key: str) -> Path:
        """Local path of a key (the object need not exist). ValueError if the key would leave the folder."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"The key {key!r} leaves the store.")
        return path

    def exists(self, key: str) -> bool:
        return bool(key) and self.path(key).exists()

    def new_temp(self, suffix: str = "") -> Path:
        """A fresh path on the same file system as the store, so that `save` is one rename."""
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{uuid.uuid4().hex}{suffix}"

    def save(self, temp: Path, key: str) -> str:
        """Moves a finished temporary file or folder to its key: fsync, then rename. Returns the SHA-256 of a file
        (of a folder: of its files' names and checksums, sorted). What was there under the key is replaced."""
        digest = checksum(temp)
        files = [temp] if temp.is_file() else [p for p in temp.rglob("*") if p.is_file()]
        for file in files:
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            old = self.new_temp()
            target.rename(old)
            temp.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temp, target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return digest

    def sweep_temp(self, older_than_seconds: float) -> int:
        """Removes what a killed process left unfinished that long ago; how many there were."""
        folder, before = self.root / ".tmp", time.time() - older_than_seconds
        stale = [p for p in folder.glob("*") if p.lstat().st_mtime < before] if folder.is_dir() else []
        for path in stale:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(stale)

    def delete(self, key: str) -> None:
        path = self.path(key)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in blocks; of a folder: over the sorted relative names and checksums of its files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{checksum(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


store = Store()
