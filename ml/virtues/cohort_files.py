"""Images of a cohort from files, as pretraining takes them: the authors' layout (spora), or a table of OME-TIFFs or OME-Zarrs with a panel.

    images.csv   file, patient and, where there are some, dataset, split (train or test), mpp, mask, tissue (label and tissue masks)
    panel.csv    name and uniprot of the channels; without it (or where a row is empty) the house's table of markers decides

Pixels are brought to the pitch once and kept as memory maps beside the work, so that a cohort may be larger than memory.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.uniprot import channel_key, proteins_of
from ml.slides.files import whole_file
from ml.types import MultiplexImage
from ml.virtues.errors import VirtuesError

IMAGES, PANEL = "images.csv", "panel.csv"


@dataclass(frozen=True)
class Cohort:
    """n images with what `ml.virtues.train.fit` asks for beside them. names: of the images. split: patient -> train or test, None where not
    all patients have a side."""

    images: tuple[MultiplexImage, ...]
    names: tuple[str, ...]
    proteins: tuple[tuple[str | None, ...], ...]
    patients: tuple[str, ...]
    datasets: tuple[str, ...]
    split: dict[str, str] | None


@dataclass(frozen=True)
class _Found:
    """One image of a folder, not yet read."""

    name: str
    patient: str
    dataset: str
    split: str
    proteins: Callable[[MultiplexImage], tuple[str | None, ...]]
    source: Path
    read: Callable[[], MultiplexImage]


def read_cohort(folders: list[Path], pitch_um: float, cache: Path) -> Cohort:
    """All images of the folders, each a data set of its own (or as images.csv says). cache: a folder that keeps the pixels.

    Patients are told apart by data set: "1" of two data sets are two people. VirtuesError: folder_unknown, file_absent, column_absent,
    table_unreadable; SlideError of the images.
    """
    found = [one for folder in folders for one in (_spora(folder, pitch_um) if _is_spora(folder) else _table(folder, pitch_um, cache))]
    images = [_kept(one, pitch_um, cache) for one in found]
    patients = tuple(f"{one.dataset}/{one.patient}" for one in found)
    split = {patient: one.split for patient, one in zip(patients, found)}
    whole = all(side in ("train", "test") for side in split.values()) and len(set(split.values())) == 2
    return Cohort(
        tuple(images),
        tuple(one.name for one in found),
        tuple(one.proteins(image) for one, image in zip(found, images)),
        patients,
        tuple(one.dataset for one in found),
        split if whole else None,
    )


def _is_spora(folder: Path) -> bool:
    return any(folder.glob("*/channels.parquet"))


def _spora(folder: Path, pitch_um: float) -> Iterator[_Found]:
    from ml.multiplex.spora import SporaDataset

    data = SporaDataset(folder, um_per_px=pitch_um)
    for tissue in data.tissues.values():
        given = tuple(c.uniprot if c.qc_pass else None for c in data.channels_of(tissue.tissue_id))
        place = folder / data.modality / data.pitch / "images" / f"{tissue.tissue_id}.ome.zarr"
        read = lambda name=tissue.tissue_id: data.image(name)  # noqa: E731
        yield _Found(tissue.tissue_id, tissue.patient_id, folder.name, tissue.split, lambda _, given=given: given, place, read)


def _table(folder: Path, pitch_um: float, cache: Path) -> Iterator[_Found]:
    rows = _rows(folder / IMAGES, ("file", "patient"))
    panel = _panel(folder / PANEL)
    for row in rows:
        path = folder / row["file"]
        if not path.exists():
            raise VirtuesError("file_absent", f"There is no image {row['file']}.", f"Correct {IMAGES}.", row["file"])
        read = lambda path=path, row=row: _read(path, row, folder, pitch_um, cache)  # noqa: E731
        yield _Found(
            row["file"],
            row["patient"],
            row.get("dataset") or folder.name,
            row.get("split", ""),
            lambda image: tuple(one.uniprot for one in proteins_of(image.markers, panel)),
            path,
            read,
        )


def _read(path: Path, row: Mapping[str, str], folder: Path, pitch_um: float, cache: Path) -> MultiplexImage:
    """One image of a table at the pitch, by way of a pyramid that is removed again."""
    import shutil
    import tempfile

    from ml.multiplex.convert import convert_multiplex
    from ml.multiplex.masks import read_mask
    from ml.multiplex.read import read_image

    masks = {name: folder / row[name] for name in ("mask", "tissue") if row.get(name)}
    labels = {name: read_mask(file) for name, file in masks.items()}
    cache.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=cache))
    try:
        convert_multiplex(path, place / "image.ome.zarr", mpp=float(row["mpp"]) if row.get("mpp") else None)
        tissue = labels.get("tissue")
        return read_image(
            place / "image.ome.zarr",
            um_per_px=pitch_um,
            mask=labels.get("mask"),
            tissue=None if tissue is None else tissue > 0,
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _kept(one: _Found, pitch_um: float, cache: Path) -> MultiplexImage:
    """The image with its pixels as a memory map; read anew where the file or the pitch is another one."""
    stat = one.source.stat()
    mark = sha256(f"{one.source.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{pitch_um}".encode()).hexdigest()[:24]
    pixels, masks = cache / f"{mark}.npy", cache / f"{mark}.npz"
    if not (pixels.is_file() and masks.is_file()):
        image = one.read()
        empty: NDArray[Any] = np.empty((0, 0))
        with whole_file(pixels) as part:
            np.save(part, image.values)
        with whole_file(masks) as part:
            np.savez_compressed(
                part,
                markers=np.array(image.markers),
                mask=empty if image.mask is None else image.mask,
                tissue=empty if image.tissue is None else image.tissue,
            )
    with np.load(masks, allow_pickle=False) as kept:
        mask, tissue = kept["mask"], kept["tissue"]
        markers = tuple(map(str, kept["markers"]))
    values = np.load(pixels, mmap_mode="r")
    return MultiplexImage(values, markers, pitch_um, mask if mask.size else None, tissue.astype(bool) if tissue.size else None)


def _panel(path: Path) -> dict[str, tuple[str | None, str]]:
    """channel_key -> (accession, where from) of the rows that name one."""
    if not path.is_file():
        return {}
    return {channel_key(r["name"]): (r["uniprot"], PANEL) for r in _rows(path, ("name", "uniprot")) if r["uniprot"]}


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        hint = f"Give a folder in the layout of spora, or one with {IMAGES} (file, patient)."
        raise VirtuesError("folder_unknown", f"There is no {path.name} in {path.parent.name}.", hint, path.name)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{str(k).strip(): (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(stream)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise VirtuesError("table_unreadable", f"{path.name} is no table.", "Write it as comma-separated text.", path.name) from error
    absent = [c for c in columns if not rows or c not in rows[0]]
    if absent:
        raise VirtuesError("column_absent", f"{path.name} has no column {absent[0]}.", f"It needs {', '.join(columns)}.", path.name)
    return rows
