"""A folder of an image as one file: its TIFFs and panel, or its OME-Zarr, in an archive that is made for the time of the import.

The same folder always gives the same archive, whatever it is called, so that its checksum finds it again.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tissueboard.store import store

ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@contextmanager
def one_file(path: Path) -> Iterator[Path]:
    """The file to import; a folder as an archive of its TIFFs and panel, or of its OME-Zarr, made for the time of the import."""
    if not path.is_dir():
        yield path
        return
    temp = store.new_temp(".zip")
    try:
        with zipfile.ZipFile(temp, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, file in members_of(path):
                with file.open("rb") as source, archive.open(zipfile.ZipInfo(name, ZIP_TIME), "w", force_zip64=True) as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        yield temp
    finally:
        temp.unlink(missing_ok=True)


def members_of(folder: Path) -> list[tuple[str, Path]]:
    """(name in the archive, file). Links are left out: they could point to anybody's file. A zarr is called image.zarr."""
    from ml.multiplex.panels import is_panel
    from ml.multiplex.zarr_input import zarr_root

    plain = sorted(p for p in folder.iterdir() if p.is_file() and not p.is_symlink())
    panels = [(p.name, p) for p in plain if is_panel(p.name)]
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and zarr_root([c.name for c in p.iterdir()]))
    if zarr_root([p.name for p in plain]):
        inside, panels = [folder], []
    if not inside:
        return [(p.name, p) for p in plain if p.suffix.lower() in (".tif", ".tiff")] + panels
    found = []
    for number, root in enumerate(inside):
        top = "image.zarr" if len(inside) == 1 else f"image-{number}.zarr"
        files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        found += [(f"{top}/{p.relative_to(root).as_posix()}", p) for p in files]
    return found + panels
