"""Small images of measured channels written on the spot, with a patient's name wherever an instrument puts one."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

NAME = "ROSENTHAL^JANE"
PANEL = ("DAPI", "CD3", "PanCK")


def draw(channels: int = 3, height: int = 300, width: int = 400, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """(channels, height, width): cells of a few pixels on a dark ground, other places in every channel."""
    rng = np.random.default_rng(seed)
    picture = rng.poisson(3, (channels, height, width)).astype(np.float64)
    y, x = np.mgrid[0:5, 0:5]
    blob = 90.0 * np.exp(-((x - 2) ** 2 + (y - 2) ** 2) / 4)
    for channel in range(channels):
        for _ in range(height * width // 900):
            top, left = rng.integers(0, height - 5), rng.integers(0, width - 5)
            picture[channel, top : top + 5, left : left + 5] += blob * (channel + 1)
    return np.clip(picture, 0, np.iinfo(dtype).max if dtype[0] in "ui" else np.inf).astype(dtype)


def write_ome(path: Path, picture: np.ndarray, names: tuple[str, ...] | None = PANEL, mpp: float | None = 0.5, **options: Any) -> Path:
    """An OME-TIFF; the patient's name is the name of the image."""
    import tifffile

    metadata: dict[str, Any] = {"axes": "CYX", "Name": NAME}
    if names:
        metadata["Channel"] = {"Name": list(names)}
    if mpp:
        metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    subifds, levels = options.pop("subifds", 0), {"photometric": "minisblack", **options}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(picture, metadata=metadata, subifds=subifds, **levels)
        for i in range(subifds):
            step = 2 ** (i + 1)
            writer.write(np.ascontiguousarray(picture[:, ::step, ::step]), subfiletype=1, **levels)
    return path


def write_qptiff(path: Path, picture: np.ndarray, names: tuple[str, ...] = PANEL, mpp: float = 0.5) -> Path:
    """As a Vectra writes it: full-resolution planes with their names in XML, then a thumbnail and planes of a lower resolution."""
    import tifffile

    def head(kind: str, name: str = "") -> str:
        named = f"<Name>{name}</Name>" if name else ""
        return (
            '<?xml version="1.0" encoding="utf-16"?>\r\n<PerkinElmer-QPI-ImageDescription>'
            f"<ImageType>{kind}</ImageType><SlideID>{NAME}</SlideID>{named}</PerkinElmer-QPI-ImageDescription>"
        )

    tags: dict[str, Any] = {"software": "PerkinElmer-QPI", "metadata": None, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        for plane, name in zip(picture, names):
            writer.write(plane, description=head("FullResolution", name), resolution=(1e4 / mpp, 1e4 / mpp), rowsperstrip=16, **tags)
        small = np.zeros((20, 30, 3), np.uint8)
        writer.write(small, description=head("Thumbnail"), photometric="rgb", resolution=(100, 100), **tags)
        for plane, name in zip(picture, names):
            low = np.ascontiguousarray(plane[::2, ::2])
            writer.write(low, description=head("ReducedResolution", name), resolution=(5e3 / mpp, 5e3 / mpp), **tags)
    return path


def write_markers(folder: Path, picture: np.ndarray, names: tuple[str, ...] = PANEL, prefix: str = "") -> Path:
    """A folder with one TIFF per marker."""
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    for plane, name in zip(picture, names):
        tifffile.imwrite(folder / f"{prefix}{name}.tif", plane, metadata=None)
    return folder


def zipped(folder: Path, target: Path) -> Path:
    """The folder as an archive, packed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return target


def image_of(sample: Any, state: str = "ready") -> Any:
    """The multiplex image of a sample, with a real pyramid in the store unless it waits for a person. Asked twice, the same."""
    import hashlib

    from tissueboard.assays.models import MultiplexImage
    from tissueboard.store import checksum, store

    sealed = hashlib.sha256(f"{sample.pk} {state}".encode()).hexdigest()
    known = MultiplexImage.objects.filter(sample=sample, sealed_sha256=sealed).first()
    if known is not None:
        return known
    finding = {"code": "CHANNEL_NAMES_MISSING", "severity": "error", "file": f"{NAME}.tif", "where": ""}
    finding |= {"sentence": "The file has 3 channels and does not say what they are.", "hint": "Give their names."}
    image = MultiplexImage(
        sample=sample, name=f"M-{sealed[:8]}", sealed_sha256=sealed, state=state, technology="codex", width=400, height=300
    )
    image.dtype, image.facts = "uint16", {"n_channels": 3, "format": "OME-TIFF"}
    if state == "ready":
        folder, facts = small_pyramid()
        image.key, image.sha256, image.channels, image.mpp = folder, checksum(store.path(folder)), list(PANEL), 0.5
        image.facts |= {"signal": facts, "names_source": "file"}
    else:
        image.findings = [finding]
    image.save()
    return image


def small_labels(height: int = 300, width: int = 400) -> np.ndarray:
    """(height, width) int32: 99 cells of 12 x 12 px (36 um2 at 0.5 um per px), with ids 3, 6, 9 ..."""
    labels = np.zeros((height, width), np.int32)
    places = [(y, x) for y in range(10, height - 24, 30) for x in range(10, width - 24, 33)][:99]
    for i, (y, x) in enumerate(places, 1):
        labels[y : y + 12, x : x + 12] = 3 * i
    return labels


def cells_of(image: Any, state: str = "ready") -> Any:
    """The cells of an image, with a real mask and table in the store. Asked twice, the same."""
    import pandas as pd

    from ml.multiplex.mask_files import write_mask
    from ml.multiplex.masks import mask_facts
    from tissueboard.assays.models import CellMask
    from tissueboard.store import checksum, store

    known = CellMask.objects.filter(image=image, state=state, replaced_at=None).first()
    if known is not None:
        return known
    labels, key, table_key = small_labels(), "small/cells.zarr", "small/cells.parquet"
    if not store.exists(key):
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        write_mask(store.path(key), labels)
        ids = np.unique(labels[labels > 0])
        kinds = np.where(ids % 2, "T cell", "Tumour")
        pd.DataFrame({"cell_id": ids, "cell_type": kinds, "area": 144.0}).to_parquet(store.path(table_key), index=False)
    facts = mask_facts(labels, 0.5)
    table = {"n_rows": 99, "id_column": "cell_id", "columns": ["area"], "types": {"cell_type": {"T cell": 50, "Tumour": 49}}}
    finding = {"code": "CELL_AREA_IMPLAUSIBLE", "severity": "error", "file": image.name, "where": ""}
    finding |= {"sentence": "The median cell has 36 um2.", "hint": "Check it."}
    return CellMask.objects.create(
        image=image, state=state, key=key, sha256=checksum(store.path(key)), n_cells=99, table_key=table_key,
        table_sha256=checksum(store.path(table_key)), facts={"mask": facts, "table": table},
        findings=[finding] if state == "needs attention" else [],
    )  # fmt: skip


def placed(image: Any, slide: Any) -> Any:
    """The image placed on the slide, by a matrix that fits both. Asked twice, the same."""
    from tissueboard.assays.alignments import place_image
    from tissueboard.assays.models import Alignment

    scale = image.mpp / slide.mpp
    known = Alignment.objects.filter(image=image, slide=slide, replaced_at=None).first()
    return known or place_image(None, image, slide, matrix=[[scale, 0, 5], [0, scale, 7]])


def small_pyramid() -> tuple[str, list[dict[str, Any]]]:
    """(key in the store, facts of the channels) of a pyramid of `draw()`, written where it is not there yet."""
    from ml.multiplex.zarr_pyramid import OpenImage, write_pyramid
    from tissueboard.store import store

    key, picture = "small/multiplex.zarr", draw()
    if store.exists(key):
        return key, OpenImage(store.path(key)).facts["channels"]
    store.path(key).parent.mkdir(parents=True, exist_ok=True)
    return key, write_pyramid(store.path(key), picture.shape, picture.dtype, lambda c: iter([picture[c]]), PANEL, 0.5)
