"""The sealed original: the bytes as they came, under their checksum, readable by the importer only. No route reads it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml.slides.dicom_series import parts_of
from ml.slides.sniff import companion_of, content_kind
from tissueboard.store import store

from .errors import IntakeCode, IntakeRefused

SEALED_MODE = 0o400
BLOCK = 1 << 20
MULTI_FILE = {".mrxs", ".vms", ".vmu"}
DICOM = ".dcm"


def companions(main: Path) -> list[Path]:
    """The other files of a multi-file slide, in a fixed order; [] for all other formats.

    MIRAX: the folder of the same name; VMS: what it names; DICOM: the other levels of the series in the same folder.
    """
    if is_dicom(main):
        return parts_of(main)
    if main.suffix.lower() not in MULTI_FILE:
        return []
    folder = main.with_suffix("")
    nearby = [*main.parent.iterdir(), *(folder.iterdir() if folder.is_dir() else ())]
    return sorted(path for path in nearby if path.is_file() and path != main and companion_of(path) == main)


def checksum(main: Path) -> str:
    """SHA-256 of a slide: of its file, or of all its files (names and checksums, main file first) if it has several."""
    parts = companions(main)
    if not parts:
        return _sha256(main)
    named = not is_dicom(main)  # the names of DICOM instances mean nothing and are not kept
    lines = [f"main\0{_sha256(main)}", *(f"{path.name if named else ''}\0{_sha256(path)}" for path in parts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def suffix_of(name: str) -> str:
    """The extension of a name if it is a plain one (".svs"), else ""; nothing else of a stranger's name reaches the disk."""
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""


def key_of(sha256: str, suffix: str, several: bool) -> str:
    """Where the original of this checksum lies: a file, or a folder with the main file named slide.<suffix>."""
    return f"sealed/{sha256[:2]}/{sha256}" if several else f"sealed/{sha256[:2]}/{sha256}{suffix}"


def main_file(sealed_key: str) -> Path:
    """The file to open of a sealed original."""
    path = store.path(sealed_key)
    if not path.is_dir():
        return path
    return _main_in(path)


def seal(main: Path, sha256: str) -> str:
    """Copies a slide into the store and returns its key; a second copy of the same bytes is not made.

    IntakeRefused FILE_CHANGED if the bytes are no longer those of `sha256`.
    """
    parts = companions(main)
    key = key_of(sha256, suffix_of(main.name), bool(parts))
    if store.exists(key):
        return key
    temp = store.new_temp(suffix_of(main.name) if not parts else "")
    try:
        if parts:
            _copy_several(main, parts, temp)
        else:
            shutil.copyfile(main, temp)
        if (checksum(_main_in(temp)) if parts else _sha256(temp)) != sha256:
            raise IntakeRefused(
                IntakeCode.FILE_CHANGED,
                "The file changed while it was read.",
                "Wait until the scanner has finished writing, then import it again.",
            )
        for file in [temp] if temp.is_file() else [p for p in temp.rglob("*") if p.is_file()]:
            file.chmod(SEALED_MODE)
        store.save(temp, key)
    finally:
        if temp.is_dir():
            shutil.rmtree(temp, ignore_errors=True)
        else:
            temp.unlink(missing_ok=True)
    return key


def is_dicom(path: Path) -> bool:
    return path.is_file() and content_kind(path) == "dicom"


def _main_in(folder: Path) -> Path:
    """The file to open of a sealed folder."""
    return next(p for p in sorted(folder.iterdir()) if p.stem == "slide" and p.suffix.lower() in {*MULTI_FILE, DICOM})


def _copy_several(main: Path, parts: list[Path], folder: Path) -> None:
    """All files of a slide, the main one renamed to slide.<suffix> and MIRAX's folder and VMS's .opt with it."""
    folder.mkdir(parents=True)
    shutil.copyfile(main, folder / f"slide{DICOM if is_dicom(main) else main.suffix.lower()}")
    for i, part in enumerate(parts):
        if is_dicom(main):
            target = folder / f"part-{i + 1}{DICOM}"
        elif part.parent == main.with_suffix(""):
            target = folder / "slide" / part.name
        else:
            target = folder / (part.name if part.stem != main.stem or part.suffix.lower() != ".opt" else "slide.opt")
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(part, target)


@contextmanager
def alone(path: Path) -> Iterator[Path]:
    """The path to check. A DICOM slide is looked at in a folder of its own, with the instances that will be kept and no other: OpenSlide
    joins a file with every instance of its series beside it, pictures of the label included."""
    if not is_dicom(path):
        yield path
        return
    folder = store.new_temp()
    folder.mkdir(parents=True)
    try:
        copy = folder / path.name
        shutil.copyfile(path, copy)
        for part in companions(path):
            shutil.copyfile(part, folder / part.name)
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
