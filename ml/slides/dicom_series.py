"""The instances (files) of one DICOM slide: which belong together, which is the main one, what is missing, what is left out.

A slide is one series; its levels are instances of image flavor VOLUME, a large level may be split into parts (a concatenation). Label,
overview and thumbnail are instances of the same series; they may show the patient's name and are never taken in.
DICOM PS3.3 A.32.8 (VL Whole Slide Microscopy Image), C.8.12.4.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ml.slides.findings import Finding, FindingCode, Severity
from ml.slides.sniff import content_kind

WSI_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
VOLUME = "VOLUME"
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PyramidUID", "ImageType", "TotalPixelMatrixColumns", "TotalPixelMatrixRows"),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber"),
)


@dataclass(frozen=True)
class Instance:
    """One file of a DICOM slide. series, pyramid: UIDs. flavor: VOLUME, LABEL, OVERVIEW, THUMBNAIL. resampled: a level made from another.
    width, height: of the whole level in its pixels. part, parts: place in a split level (1 of 1 if it is not split)."""

    path: Path
    uid: str
    series: str
    pyramid: str
    flavor: str
    resampled: bool
    width: int
    height: int
    level: str
    part: int
    parts: int


def instance_of(path: Path) -> Instance | None:
    """What a file is as an instance of a slide, or None if it is none."""
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns) if path.is_file() else None
    except OSError:
        return None


def instances_beside(path: Path) -> list[Instance]:
    """All instances of the file's series in its folder, itself included: largest level first, then part, then UID (never the name)."""
    own = instance_of(path)
    if own is None:
        return []
    beside = (instance_of(other) for other in path.parent.iterdir())
    same = [one for one in beside if one is not None and one.series == own.series]
    same = [one for one in same if not one.flavor == own.flavor == VOLUME or "" in {one.pyramid, own.pyramid} or one.pyramid == own.pyramid]
    return sorted(same, key=lambda one: (one.flavor != VOLUME, -one.width, one.level, one.part, one.uid))


def main_of(path: Path) -> Path | None:
    """The file by which the slide of this instance is imported; None for a file that is no level of a slide."""
    own = instance_of(path)
    if own is None or own.flavor != VOLUME:
        return None
    return instances_beside(path)[0].path


def parts_of(main: Path) -> list[Path]:
    """The other levels and parts of the slide, in the order of `instances_beside`; [] for a file that is not the main one."""
    if main_of(main) != main:
        return []
    return [one.path for one in instances_beside(main)[1:] if one.flavor == VOLUME]


def series_findings(path: Path) -> list[Finding]:
    """What is missing of the slide that this file belongs to, judged by the instances beside it."""
    levels = [one for one in instances_beside(path) if one.flavor == VOLUME]
    hint = "Import all files of the series together: their folder, or one ZIP or TAR of it."
    found = []
    split: dict[str, list[Instance]] = {}
    for one in levels:
        split.setdefault(one.level, []).append(one)
    for several in split.values():
        missing = sorted(set(range(1, several[0].parts + 1)) - {one.part for one in several})
        if missing:
            sentence = f"A level of the slide is split into {several[0].parts} files, and {len(missing)} of them are missing."
            where = f"part {', '.join(map(str, missing[:10]))}"
            found.append(Finding(FindingCode.DICOM_INSTANCE_MISSING, Severity.ERROR, path.name, where, sentence, hint))
    if levels and all(one.resampled for one in levels):
        sentence = "The finest level here is resampled from a finer one, which is not among the files."
        found.append(Finding(FindingCode.DICOM_SERIES_PART, Severity.WARNING, path.name, "ImageType", sentence, hint))
    return found


def left_out_findings(path: Path) -> list[Finding]:
    """Which instances of the series beside this file are not taken in: pictures of the label and the whole glass."""
    left = [one.flavor for one in instances_beside(path) if one.flavor != VOLUME]
    if not left:
        return []
    sentence = f"{len(left)} files of the series are no level of the slide but label or overview pictures; they are left out."
    hint = "Nothing to do; such pictures may show the patient's name."
    return [Finding(FindingCode.DICOM_LEFT_OUT, Severity.INFO, path.name, ", ".join(sorted(left)), sentence, hint)]


@lru_cache(maxsize=4096)
def _read(path: Path, _size: int, _changed: int) -> Instance | None:
    """The header of a file, read once as long as the file does not change."""
    if content_kind(path) != "dicom":
        return None
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        return _instance(path, header)
    except Exception:
        return None


def _instance(path: Path, header: Any) -> Instance | None:
    kinds = [str(part).upper() for part in header.get("ImageType") or []]
    if header.get("SOPClassUID") != WSI_SOP_CLASS or len(kinds) < 3 or not header.get("SeriesInstanceUID"):
        return None
    uid = str(header.SOPInstanceUID)
    return Instance(
        path=path,
        uid=uid,
        series=str(header.SeriesInstanceUID),
        pyramid=str(header.get("PyramidUID", "")),
        flavor=kinds[2],
        resampled=len(kinds) > 3 and kinds[3] == "RESAMPLED",
        width=int(header.get("TotalPixelMatrixColumns", 0)),
        height=int(header.get("TotalPixelMatrixRows", 0)),
        level=str(header.get("ConcatenationUID", uid)),
        part=int(header.get("InConcatenationNumber", 1)),
        parts=int(header.get("InConcatenationTotalNumber", 1)),
    )
