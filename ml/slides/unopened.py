"""Why OpenSlide would not open a file: the same bytes looked at as TIFF, DICOM, picture or archive.

The sentences never repeat a patient's name or id.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from ml.slides.archives import archive_findings
from ml.slides.dicom_series import WSI_SOP_CLASS, series_findings
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.flat import unreadable_as_flat
from ml.slides.sniff import EXTENSION_KINDS, companion_of, missing_companions

MAX_PICTURE_BYTES = 1 << 30
PATIENT_TAGS = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OtherPatientIDs", "PatientAddress")
KIND_SENTENCES = {
    "pdf": "This is a PDF document, not a slide.",
    "hdf5": "This is an HDF5 file, not a slide.",
    "sqlite": "This is a database file, not a slide.",
    "xml": "This is an XML file, not a slide.",
    "text": "This is a text file, not a slide.",
}


def explain(path: Path, kind: str, error: SlideError, smallest_px: float) -> list[Finding]:
    """Findings for a file that OpenSlide refused with `error`; at least one is an error."""
    if main := companion_of(path):
        hint = f"Import {main.name} with its companion files beside it."
        return [_error(path, FindingCode.COMPANION_FILE, f"This is a part of the slide {main.name}, not a slide.", hint)]
    if missing := missing_companions(path):
        hint = "Copy them beside the file under the same names, then check again."
        sentence = f"The slide consists of several files, and {len(missing)} of them are missing."
        return [_error(path, FindingCode.COMPANION_MISSING, sentence, hint, ", ".join(missing[:5]))]
    if kind == "tiff":
        return _tiff(path, error, smallest_px)
    if kind == "dicom":
        return _dicom(path, error)
    if kind in {"tar", "zip", "gzip"}:
        return archive_findings(path, kind)
    if kind == "html":
        hint = "The download failed, often because of a login: fetch the slide again and compare its size."
        return [_error(path, FindingCode.HTML_PAGE, "This is a web page saved under the name of a slide.", hint)]
    if kind in {"jpeg", "png"} and error.code == FindingCode.UNSUPPORTED_FORMAT:
        return [_picture(path, kind)]
    if kind in KIND_SENTENCES and error.code == FindingCode.UNSUPPORTED_FORMAT:
        return [_error(path, FindingCode.UNSUPPORTED_FORMAT, KIND_SENTENCES[kind], error.hint)]
    if error.code == FindingCode.UNSUPPORTED_FORMAT and _promises_tiff(path):
        return [_error(path, FindingCode.TIFF_BROKEN, "The TIFF header is damaged.", "Copy or export the file again.", "header")]
    return [error.finding(path.name)]


def patient_tags(path: Path) -> list[str]:
    """Names (not values) of DICOM tags that identify a patient and are filled."""
    header = _dicom_header(path)
    if header is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [tag for tag in PATIENT_TAGS if str(header.get(tag) or "").strip()]


def _promises_tiff(path: Path) -> bool:
    """Named as a TIFF and begins with its byte-order mark, but not with its version."""
    with path.open("rb") as stream:
        mark = stream.read(2)
    return EXTENSION_KINDS.get(path.suffix.lower()) == "tiff" and mark in {b"II", b"MM"}


def _dicom(path: Path, error: SlideError) -> list[Finding]:
    header = _dicom_header(path)
    if header is None:
        return [error.finding(path.name)]
    image_type = [str(part).upper() for part in header.get("ImageType") or []]
    if header.get("Modality") != "SM" or header.get("SOPClassUID") != WSI_SOP_CLASS:
        sentence = f"This is a DICOM file of another kind (modality {header.get('Modality') or 'not stated'}), not a slide."
        findings = [_error(path, FindingCode.DICOM_WRONG_MODALITY, sentence, "Export the slide as VL Whole Slide Microscopy Image.")]
    elif {"LABEL", "OVERVIEW", "THUMBNAIL"} & set(image_type):
        sentence = "This is the label or overview picture of a slide, not the slide; it may show the patient's name."
        hint = "Import the instances whose ImageType says VOLUME; leave this one out."
        findings = [_error(path, FindingCode.DICOM_LABEL_IMAGE, sentence, hint, "ImageType")]
    elif len(image_type) < 3:
        sentence = "The DICOM file does not say which kind of slide picture it is (no image flavor such as VOLUME)."
        hint = "Export it again with a standard converter (ImageType ORIGINAL\\PRIMARY\\VOLUME\\NONE)."
        findings = [_error(path, FindingCode.DICOM_NO_FLAVOR, sentence, hint, "ImageType (0008,0008)")]
    else:
        findings = series_findings(path) or [error.finding(path.name)]
        if not any(finding.severity == Severity.ERROR for finding in findings):
            findings.append(error.finding(path.name))
    if tags := patient_tags(path):
        sentence = f"The header is filled in {len(tags)} fields that identify the patient."
        hint, where = "Remove them before sending the file on.", ", ".join(tags)
        findings.append(_finding(path, FindingCode.IDENTIFIERS_IN_HEADER, Severity.WARNING, sentence, hint, where))
    return findings


def _dicom_header(path: Path) -> Any:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception:
        return None


def _tiff(path: Path, error: SlideError, smallest_px: float) -> list[Finding]:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if error.code != FindingCode.UNSUPPORTED_FORMAT:
        return [error.finding(path.name)]
    try:
        with tifffile.TiffFile(path) as tif:
            return _tiff_pages(path, tif, smallest_px)
    except Exception as reason:
        return [_broken(path, reason, "")]


def _tiff_pages(path: Path, tif: Any, smallest_px: float) -> list[Finding]:
    page = tif.pages[0]
    description = page.description or ""
    rgb = page.samplesperpixel in {3, 4} and page.dtype is not None and page.dtype.kind == "u" and page.dtype.itemsize == 1
    findings = []
    if "<OME" in description:
        findings += _ome_findings(path, description)
    if not rgb and (len(tif.pages) > 1 or any(word in description for word in ("<OME", "PerkinElmer", "ImageJ"))):
        sentence = f"This is an image of measured channels ({page.dtype}, {len(tif.pages)} planes), not a brightfield H&E slide."
        hint = "Import it as a multiplex image of its sample (Add a multiplex image, or manage.py import_multiplex)."
        findings.append(_error(path, FindingCode.ASSAY_IMAGE, sentence, hint, "IFD 0"))
    elif not rgb:
        sentence = f"Channels in the picture: {page.samplesperpixel}, of {page.dtype}; a stained slide has three of 8 bits."
        findings.append(_error(path, FindingCode.NOT_BRIGHTFIELD, sentence, "Export the slide as 8-bit RGB.", "IFD 0"))
    if min(page.imagewidth, page.imagelength) < smallest_px:
        sentence = f"The picture is {page.imagewidth} x {page.imagelength} pixels: smaller than one tile."
        findings.append(_error(path, FindingCode.TOO_SMALL, sentence, "Import the scan itself, not a thumbnail of it.", "IFD 0"))
    if page.nbytes <= MAX_PICTURE_BYTES:
        try:
            page.asarray()
        except Exception as reason:
            findings.append(_broken(path, reason, "IFD 0"))
    if not any(finding.severity == Severity.ERROR for finding in findings):
        hint = "Convert it and import the result: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --Q 90, with its resolution."
        reason = unreadable_as_flat(page) or "the reader refuses it"
        sentence = f"The picture is whole, but it is not a tiled pyramid, and it cannot be converted here: {reason}."
        findings.append(_error(path, FindingCode.NOT_A_PYRAMID, sentence, hint, "IFD 0"))
    return findings


def _ome_findings(path: Path, description: str) -> list[Finding]:
    try:
        if "<!DOCTYPE" in description or "<!ENTITY" in description:
            raise ValueError("document type declarations are not read")
        ElementTree.fromstring(description.encode())
    except Exception as reason:
        sentence = f"The OME-XML of the file cannot be parsed ({type(reason).__name__})."
        hint, where = "Write the file again with valid OME-XML.", "IFD 0, ImageDescription"
        return [_finding(path, FindingCode.METADATA_BROKEN, Severity.WARNING, sentence, hint, where)]
    return []


def _picture(path: Path, kind: str) -> Finding:
    try:
        with Image.open(path) as picture:
            picture.verify()
        which = "plain"
    except Exception:
        which = "damaged"
    sentence = f"This is a {which} {kind} picture, not a slide."
    return _error(path, FindingCode.PICTURE_NOT_SLIDE, sentence, "Import the scanner's own file.")


def _broken(path: Path, reason: Exception, where: str) -> Finding:
    sentence = f"The TIFF structure is damaged ({type(reason).__name__})."
    return _error(path, FindingCode.TIFF_BROKEN, sentence, "Copy or export the file again and compare the sizes.", where)


def _error(path: Path, code: FindingCode, sentence: str, hint: str, where: str = "") -> Finding:
    return _finding(path, code, Severity.ERROR, sentence, hint, where)


def _finding(path: Path, code: FindingCode, severity: Severity, sentence: str, hint: str, where: str) -> Finding:
    return Finding(code, severity, path.name, where, sentence, hint)
