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


def small_pyramid() -> tuple[str, list[dict[str, Any]]]:
    """(key in the store, facts of the channels) of a pyramid of `draw()`, written where it is not there yet."""
    from ml.multiplex.zarr_pyramid import OpenImage, write_pyramid
    from tissueboard.store import store

    key, picture = "small/multiplex.zarr", draw()
    if store.exists(key):
        return key, OpenImage(store.path(key)).facts["channels"]
    store.path(key).parent.mkdir(parents=True, exist_ok=True)
    return key, write_pyramid(store.path(key), picture.shape, picture.dtype, lambda c: iter([picture[c]]), PANEL, 0.5)
