"""One slide in an archive: unpacked for the import, and gone afterwards. Anything else stays an archive, which the check refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml.slides.archives import unpack
from ml.slides.dicom_series import instance_of
from ml.slides.sniff import companion_of, content_kind
from tissueboard.store import store

ARCHIVES = {"zip", "tar", "gzip"}
MAIN_SUFFIXES = {".mrxs", ".vms", ".vmu"}


@contextmanager
def one_slide(path: Path) -> Iterator[Path]:
    """The file to import: of an archive that holds exactly one slide its main file, unpacked below the store; else `path` itself.

    OSError of a full disk goes on; nothing is left behind.
    """
    kind = content_kind(path) if path.is_file() else ""
    if kind not in ARCHIVES:
        yield path
        return
    folder = store.new_temp()
    folder.mkdir(parents=True)
    try:
        slides = slides_in(folder) if unpack(path, kind, folder) else []
        yield slides[0] if len(slides) == 1 else path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def slides_in(folder: Path) -> list[Path]:
    """The main file of every slide in a folder and below, by content; label pictures, readmes and parts of slides are none."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and companion_of(path) is None and _is_slide(path)]


def _is_slide(path: Path) -> bool:
    if path.suffix.lower() in MAIN_SUFFIXES:
        return True
    kind = content_kind(path)
    if kind == "dicom":
        one = instance_of(path)
        return one is not None and one.flavor == "VOLUME"
    return kind == "tiff"
