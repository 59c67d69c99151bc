"""Small DICOM slides written on the spot: the levels of one series as instances, with label, overview, parts of a level; pydicom only."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, generate_uid

WSM = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 256
PATIENT = "ROSENTHAL^JANE"


def new_series() -> dict[str, str]:
    """The identifiers that the instances of one slide share."""
    return {name: generate_uid() for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}


def write_instance(
    path: Path, picture: np.ndarray, series: dict[str, str], mpp: float, flavor: str = "VOLUME", resampled: bool = False, **tags
) -> Path:
    """One instance. picture: (h, w, 3) uint8. flavor: VOLUME, LABEL, OVERVIEW or THUMBNAIL. tags: further attributes."""
    height, width = picture.shape[:2]
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = WSM
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    for name, value in series.items():
        setattr(data, name, value)
    data.Modality, data.PatientName, data.PatientID = "SM", PATIENT, "MRN-0815-4711"
    data.ImageType = ["DERIVED" if resampled else "ORIGINAL", "PRIMARY", flavor, "RESAMPLED" if resampled else "NONE"]
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    side_x, side_y = (TILE, TILE) if flavor == "VOLUME" else (width, height)
    data.Columns, data.Rows = side_x, side_y
    data.DimensionOrganizationType = "TILED_FULL"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.NumberOfOpticalPaths = data.TotalPixelMatrixFocalPlanes = 1
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    across, down = -(-width // side_x), -(-height // side_y)
    padded = np.pad(picture, ((0, down * side_y - height), (0, across * side_x - width), (0, 0)), mode="edge")
    tiles = [padded[r * side_y : (r + 1) * side_y, c * side_x : (c + 1) * side_x] for r in range(down) for c in range(across)]
    coding = {"level": 90, "colorspace": "rgb", "outcolorspace": "ycbcr", "subsampling": "422"}
    frames = [imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), **coding) for tile in tiles]
    data.NumberOfFrames = len(frames)
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, picture: np.ndarray, mpp: float = 0.5, factors: tuple = (1, 2, 4), label: bool = True) -> list[Path]:
    """A whole slide as scanners export it: one file per level under names that say nothing, a label and an overview."""
    series = new_series()
    written = [
        write_instance(folder / f"1.2.{9 - i}.dcm", np.ascontiguousarray(picture[::f, ::f]), series, mpp * f, resampled=f > 1)
        for i, f in enumerate(factors)
    ]
    if label:
        small = np.full((128, 200, 3), 40, np.uint8)
        written.append(write_instance(folder / "1.2.20.dcm", small, series, 30.0, "LABEL"))
        written.append(write_instance(folder / "1.2.21.dcm", small, series, 30.0, "OVERVIEW"))
    return written
