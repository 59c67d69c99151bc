"""The intake check of one slide file. Opening is not validating: tiles of every level are decoded before a slide is called ready.

As a command (`python -m ml.slides.check PATH [--mpp X] [--memory-mb N]`) it prints the report as one line of JSON; that is how
ml.slides.isolate runs it in a child process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.slides.dicom_series import series_findings
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.flat import PLAUSIBLE_MPP, conversion_findings, open_source
from ml.slides.reader import MAX_UPSAMPLING, Slide
from ml.slides.sniff import content_kind, extension_finding
from ml.slides.tile_table import tile_table_findings
from ml.slides.tissue import mask_of
from ml.slides.unopened import explain, patient_tags

READY, NEEDS_ATTENTION, REJECTED = "ready", "needs attention", "rejected"
TILE_UM = 56.0
WANTED_MPP = 0.5  # every model here works at 0.5 um per pixel or finer
SURELY_WRONG_MPP = 100.0  # whoever states it
PROBES_PER_SIDE = 4
PROBE_PX = 256
MASK_UM = 8.0
MIN_TISSUE_MM2 = 0.01
SAMPLED_ABOVE_PX = 500_000_000  # pixels of the smallest level above which tissue is estimated
MOSAIC_SIDE, MOSAIC_PX = 12, 512
# Errors that a person can lift: by an mpp, by a conversion, by a look at the slide, by trying again.
ATTENTION = {
    FindingCode.MPP_MISSING,
    FindingCode.MPP_IMPLAUSIBLE,
    FindingCode.MPP_ANISOTROPIC,
    FindingCode.LEVEL_TOO_LOW,
    FindingCode.NO_TISSUE,
    FindingCode.NOT_A_PYRAMID,
    FindingCode.TILE_DAMAGED,
    FindingCode.DICOM_INSTANCE_MISSING,
    FindingCode.COMPANION_MISSING,
    FindingCode.PARSER_TIMEOUT,
    FindingCode.PARSER_OUT_OF_MEMORY,
}
IDENTIFYING_PROPERTIES = (  # endings of OpenSlide property names, lower case
    *("aperio.filename", "aperio.title", "aperio.user", "aperio.date", "aperio.time", "aperio.imageid"),
    *("tiff.datetime", "tiff.artist", "tiff.hostcomputer", "tiff.documentname"),
    *("patient", "slide_name", "slide_id", "barcode", "hamamatsu.reference"),
)
SCANNER_PROPERTIES = ("aperio.ScanScope ID", "dicom.ManufacturerModelName", "tiff.Model", "tiff.Make")


@dataclass(frozen=True)
class SlideReport:
    """What the check found. state: ready, needs attention or rejected.

    facts (where known): bytes, kind, width, height (px0), mpp (um per px0), mpp_source (header, override), header_mpp, vendor,
    levels (downsamples), tissue_mm2, tissue_share (0..1), tissue_estimated (from samples), pen_share and
    frame_share (0..1 of the picture), scanner, objective_power,
    associated_images (names).
    """

    file: str
    state: str
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "findings": [finding.to_dict() for finding in self.findings]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SlideReport:
        """The inverse of to_dict."""
        return cls(data["file"], data["state"], [Finding(**finding) for finding in data["findings"]], data["facts"])

    @property
    def codes(self) -> set[str]:
        """The codes of all findings."""
        return {str(finding.code) for finding in self.findings}


def report_of(path: Path, findings: list[Finding], facts: dict[str, Any] | None = None) -> SlideReport:
    """A report whose state follows from its findings."""
    errors = {finding.code for finding in findings if finding.severity == Severity.ERROR}
    state = READY if not errors else (NEEDS_ATTENTION if errors <= ATTENTION else REJECTED)
    return SlideReport(path.name, state, findings, facts or {})


def check_slide(path: str | Path, mpp: float | None = None) -> SlideReport:
    """Everything that can be said about a slide file before it is taken in. Never raises for what is inside the file.

    mpp: um per px0 stated by a person, for files that do not state it or state nonsense.
    """
    path = Path(path)
    if not path.is_file():
        error = SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
        return report_of(path, [error.finding(path.name)])
    kind = content_kind(path)
    facts: dict[str, Any] = {"bytes": path.stat().st_size, "kind": kind}
    if kind == "empty":
        error = SlideError(FindingCode.EMPTY_FILE, "The file is empty (0 bytes).", "The copy failed: copy it again.")
        return report_of(path, [error.finding(path.name)], facts)
    findings = extension_finding(path, kind)
    try:
        slide = open_source(path, mpp=mpp)
    except SlideError as error:
        return report_of(path, findings + explain(path, kind, error, TILE_UM / WANTED_MPP), facts)
    with slide:
        facts |= slide_facts(slide)
        findings += conversion_findings(slide)
        findings += _inside(slide, kind, facts)
    return report_of(path, findings, facts)


def slide_facts(slide: Slide) -> dict[str, Any]:
    """Facts of the header: size, um per px0 and its source, vendor, levels, scanner. Values that may identify are not among them."""
    properties = slide.osr.properties
    power = properties.get("openslide.objective-power")
    return {
        "width": slide.size[0],
        "height": slide.size[1],
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "header_mpp": None if slide.header_mpp_xy is None else sum(slide.header_mpp_xy) / 2,
        "vendor": slide.vendor,
        "levels": list(slide.levels),
        "scanner": next((properties[key] for key in SCANNER_PROPERTIES if key in properties), ""),
        "objective_power": power,
        "associated_images": sorted(slide.osr.associated_images),
    }


def _inside(slide: Slide, kind: str, facts: dict[str, Any]) -> list[Finding]:
    """Findings about an open slide; adds the measured tissue to `facts`."""
    size_findings = list(_physical_size(slide, facts))
    believed = None if any(f.code == FindingCode.MPP_IMPLAUSIBLE for f in size_findings) else slide.mpp
    small = _too_small(slide, believed)
    findings = size_findings + list(_identifiers(slide, kind)) + small + list(_levels(slide))
    findings += series_findings(slide.path) if kind == "dicom" else []
    unreadable = _probe(slide)
    table = tile_table_findings(slide) if kind == "tiff" else []
    findings += [finding for finding in table if not unreadable or finding.code != FindingCode.TILE_DAMAGED] + unreadable
    if not unreadable and not small and FindingCode.TILE_DAMAGED not in {finding.code for finding in table}:
        findings += _tissue(slide, believed, facts)
    return findings


def _physical_size(slide: Slide, facts: dict[str, Any]) -> Iterator[Finding]:
    name, header, mpp = slide.path.name, facts["header_mpp"], slide.mpp
    tag = slide.vendor == "generic-tiff"  # its mpp is a resolution tag that any program fills with a default
    if mpp is None:
        sentence = "The slide does not say how many micrometres a pixel is."
        yield _error(name, FindingCode.MPP_MISSING, sentence, "Give the scanner's value: --mpp 0.25 for 40x, --mpp 0.5 for 20x.")
        return
    low, high = PLAUSIBLE_MPP
    if mpp < low or mpp > (high if tag or slide.mpp_source == "override" else SURELY_WRONG_MPP):
        whose = "You state" if slide.mpp_source == "override" else "The file states"
        sentence = f"{whose} {mpp:.4g} um per pixel, which no slide scanner makes (often a printer's default resolution)."
        yield _error(name, FindingCode.MPP_IMPLAUSIBLE, sentence, "Give the scanner's value: --mpp 0.25 for 40x, --mpp 0.5 for 20x.")
        return
    if slide.mpp_source == "header" and slide.header_mpp_xy and abs(math.log(slide.header_mpp_xy[0] / slide.header_mpp_xy[1])) > 0.05:
        x, y = slide.header_mpp_xy
        sentence = f"A pixel is {x:.3g} um wide and {y:.3g} um high; square pixels are needed."
        yield _error(name, FindingCode.MPP_ANISOTROPIC, sentence, "If the scanner's pixels are square, give their size with --mpp.")
    trusted = header is not None and not tag and low <= header <= SURELY_WRONG_MPP
    if slide.mpp_source == "override" and header is not None and low <= header <= high and abs(math.log(header / mpp)) > 0.1:
        sentence = f"The file states {header:.4g} um per pixel, you state {mpp:.4g}; yours is used."
        yield Finding(FindingCode.MPP_CONFLICT, Severity.WARNING, name, "", sentence, "Check the scanner's settings.")
    coarse = max(mpp, header) if trusted else mpp
    if coarse > MAX_UPSAMPLING * WANTED_MPP:
        sentence = f"The finest level has {coarse:.4g} um per pixel; the models need {WANTED_MPP} and detail is never invented."
        yield _error(name, FindingCode.LEVEL_TOO_LOW, sentence, "Import the full-resolution scan, not an overview level of it.", "level 0")


def _identifiers(slide: Slide, kind: str) -> Iterator[Finding]:
    name = slide.path.name
    filled = [key for key, value in slide.osr.properties.items() if value.strip() and key.lower().endswith(IDENTIFYING_PROPERTIES)]
    filled += patient_tags(slide.path) if kind == "dicom" else []
    if filled:
        sentence = f"{len(filled)} of the header's fields may identify the patient or the file; the working slide is made without them."
        yield Finding(FindingCode.IDENTIFIERS_IN_HEADER, Severity.INFO, name, ", ".join(filled)[:200], sentence, "Nothing to do.")
    if images := sorted(slide.osr.associated_images):
        sentence = "The file carries label, macro or thumbnail pictures; the working slide is made without them."
        yield Finding(FindingCode.ASSOCIATED_IMAGES, Severity.INFO, name, ", ".join(images), sentence, "Nothing to do.")


def _levels(slide: Slide) -> Iterator[Finding]:
    """Levels whose downsample is no whole number, beyond what rounding their sizes explains."""
    for level, (width, height) in enumerate(slide.osr.level_dimensions):
        factor = max(1, round(slide.levels[level]))
        if all(abs(side / factor - small) < 1.0 for side, small in zip(slide.size, (width, height))):
            continue
        sentence = f"Level {level} is {slide.levels[level]:.4g} times smaller than level 0, which is no whole number."
        hint = "Nothing to do: every read is by um, so that sizes and places stay right."
        yield Finding(FindingCode.LEVEL_NOT_INTEGER, Severity.INFO, slide.path.name, f"level {level}", sentence, hint)


def _too_small(slide: Slide, believed: float | None) -> list[Finding]:
    smallest = TILE_UM / (believed or WANTED_MPP)
    if min(slide.size) >= smallest:
        return []
    sentence = f"The picture is {slide.size[0]} x {slide.size[1]} pixels: smaller than one tile of {TILE_UM:.0f} um."
    return [_error(slide.path.name, FindingCode.TOO_SMALL, sentence, "Import the scan itself, not a thumbnail of it.", "level 0")]


def _probe(slide: Slide) -> list[Finding]:
    """Decode tiles in several places of every level, the last corner included; the first failure ends it."""
    for level, (width, height) in enumerate(slide.osr.level_dimensions):
        for row in range(PROBES_PER_SIDE):
            for col in range(PROBES_PER_SIDE):
                x, y = (round(max(side - PROBE_PX, 0) * i / (PROBES_PER_SIDE - 1)) for side, i in ((width, col), (height, row)))
                scale = slide.levels[level]
                try:
                    slide.read_level(int(x * scale), int(y * scale), min(PROBE_PX, width), min(PROBE_PX, height), level)
                except SlideError as error:
                    return [error.finding(slide.path.name)]
    return []


def _tissue(slide: Slide, believed: float | None, facts: dict[str, Any]) -> list[Finding]:
    """Measured tissue; without a believed mpp the cells are taken as if the scan had WANTED_MPP and no area is stated."""
    mpp = believed or WANTED_MPP
    cell_um = max(MASK_UM, mpp)
    try:
        estimated = min(w * h for w, h in slide.osr.level_dimensions) > SAMPLED_ABOVE_PX
        picture = _mosaic(slide, cell_um / mpp) if estimated else slide.overview(cell_um / mpp)
        found = mask_of(picture, cell_um)
    except SlideError as error:
        return [error.finding(slide.path.name)]
    share = float(found.mask.mean())
    area = share * slide.size[0] * slide.size[1] * (mpp / 1000.0) ** 2
    facts["tissue_share"], facts["tissue_estimated"] = round(share, 4), estimated
    facts["tissue_mm2"] = round(area, 4) if believed else None
    facts["pen_share"], facts["frame_share"] = round(found.pen_share, 4), round(found.frame_share, 4)
    if area >= MIN_TISSUE_MM2:
        return []
    sentence = f"No piece of stained tissue of {MIN_TISSUE_MM2:g} mm² or more was found at {mpp:.3g} um per pixel."
    hint = "Look at the slide: an overview, a mask, a fluorescence picture or an empty scan is no H&E; or the um per pixel is wrong."
    return [_error(slide.path.name, FindingCode.NO_TISSUE, sentence, hint)]


def _mosaic(slide: Slide, cell_px0: float) -> NDArray[np.uint8]:
    """Windows spread evenly over a slide without low levels, side by side: reading all of it only to look for tissue takes minutes."""
    cells = max(1, int(MOSAIC_PX / cell_px0))
    places = [[round((side - cells * cell_px0) * i / (MOSAIC_SIDE - 1)) for i in range(MOSAIC_SIDE)] for side in slide.size]
    rows = [np.concatenate([slide.read_scaled(x, y, cells, cells, cell_px0) for x in places[0]], axis=1) for y in places[1]]
    return np.concatenate(rows)


def _error(file: str, code: FindingCode, sentence: str, hint: str, where: str = "") -> Finding:
    return Finding(code, Severity.ERROR, file, where, sentence, hint)


def main(arguments: list[str] | None = None) -> int:
    """Print the report of one file as a line of JSON."""
    parser = argparse.ArgumentParser(description="Check one slide file and print the report as JSON.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--mpp", type=float)
    options = parser.parse_args(arguments)
    print(json.dumps(check_slide(options.path, options.mpp).to_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
