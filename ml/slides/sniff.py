"""What a file is by its content, whatever its name says; and which files of a multi-file slide belong together."""

from __future__ import annotations

import configparser
from pathlib import Path

from ml.slides.findings import Finding, FindingCode, Severity

EXTENSION_KINDS = {
    **dict.fromkeys((".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".qptiff", ".btf", ".svslide"), "tiff"),
    **dict.fromkeys((".jpg", ".jpeg", ".mrxs"), "jpeg"),
    **dict.fromkeys((".vms", ".vmu"), "text"),
    ".dcm": "dicom",
    ".png": "png",
    ".tar": "tar",
    ".zip": "zip",
    ".pdf": "pdf",
}
MAGIC = (
    (b"II*\x00", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "rar"),
    (b"%PDF", "pdf"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"SQLite format 3", "sqlite"),
)


def content_kind(path: Path) -> str:
    """One of empty, tiff, dicom, jpeg, png, html, xml, text, pdf, hdf5, sqlite, tar, zip, gzip, 7z, rar, unknown."""
    with path.open("rb") as stream:
        head = stream.read(2048)
    if not head:
        return "empty"
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if head[128:132] == b"DICM":
        return "dicom"
    if head[257:262] == b"ustar" or _old_tar(path, head):
        return "tar"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        return "html"
    if start.startswith(b"<?xml"):
        return "xml"
    text = set(range(32, 127)) | {9, 10, 13}
    return "text" if all(byte in text for byte in head) and len(head.split(b"\n")) > 1 else "unknown"


def extension_finding(path: Path, kind: str) -> list[Finding]:
    """A warning when the name promises another content than the file has."""
    promised = EXTENSION_KINDS.get(path.suffix.lower())
    if promised is None or promised == kind or kind in {"unknown", "empty"}:
        return []
    return [
        Finding(
            FindingCode.WRONG_EXTENSION,
            Severity.WARNING,
            path.name,
            "",
            f"The file is named {path.suffix}, which promises {promised}, but its content is {kind}.",
            "Check where the file came from; a failed download is often a page of text under the name of the slide.",
        )
    ]


def companion_of(path: str | Path) -> Path | None:
    """The main file (.mrxs, .vms, the finest DICOM instance) that this file is a part of, or None. Importers go on to the main file."""
    path = Path(path)
    if path.suffix.lower() in {".dat", ".ini"} and path.parent.name:
        main = path.parent.with_name(path.parent.name + ".mrxs")
        if main.is_file():
            return main
    for candidate in sorted((*path.parent.glob("*.vms"), *path.parent.glob("*.vmu"))):
        if candidate != path and (path.name in _vms_parts(candidate) or path == candidate.with_suffix(".opt")):
            return candidate
    from ml.slides.dicom_series import main_of

    main = main_of(path)
    return None if main == path else main


def missing_companions(path: Path) -> list[str]:
    """Names of files that a multi-file slide needs and that are not there."""
    if path.suffix.lower() == ".mrxs":
        folder = path.with_suffix("")
        if not (folder / "Slidedat.ini").is_file():
            return [f"{folder.name}/Slidedat.ini"]
        return [f"{folder.name}/{name}" for name in _mrxs_parts(folder / "Slidedat.ini") if not (folder / name).is_file()]
    if path.suffix.lower() in {".vms", ".vmu"}:
        return [name for name in _vms_parts(path) if not (path.parent / name).is_file()]
    return []


def _ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True, delimiters=("=",))
    text = path.read_bytes()[: 1 << 20].decode("utf-8-sig", errors="replace")
    try:
        parser.read_string(text)
    except configparser.Error:
        return configparser.ConfigParser()
    return parser


def _vms_parts(path: Path) -> list[str]:
    """File names that a .vms/.vmu names: images, map and macro."""
    wanted = ("imagefile", "mapfile", "macroimage")
    parser = _ini(path)
    return [
        value
        for section in parser.sections()
        for key, value in parser[section].items()
        if key.startswith(wanted) and value and "/" not in value and "\\" not in value
    ]


def _mrxs_parts(slidedat: Path) -> list[str]:
    """Index and data files that Slidedat.ini names."""
    parser = _ini(slidedat)
    named = [parser.get("HIERARCHICAL", "INDEXFILE", fallback="Index.dat")]
    if parser.has_section("DATAFILE"):
        named += [value for key, value in parser["DATAFILE"].items() if key.startswith("file_") and key != "file_count" and value]
    return [name for name in named if "/" not in name and "\\" not in name]


def _old_tar(path: Path, head: bytes) -> bool:
    """Tar archives from before 1988 carry no magic; the checksum of the first header tells."""
    if len(head) < 512:
        return False
    try:
        stated = int(head[148:156].split(b"\x00")[0].strip() or b"x", 8)
    except ValueError:
        return False
    return stated == sum(head[:148]) + 8 * 32 + sum(head[156:512])
