"""From a file's bytes to text: what kind of file it is, the one member of an archive, the encoding."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ml.slides.findings import Finding
from tissueboard.intake.errors import IntakeCode, error, warning

MAX_BYTES = 256 * 2**20  # of a table after unpacking; the widest public tables have 12 MB
WORKBOOK_PARTS = "xl/workbook.xml"


class Unusable(Exception):
    """The bytes are no table; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding


@dataclass(frozen=True)
class Unwrapped:
    """content: the bytes of the table itself. workbook: whether they are an XLSX file."""

    content: bytes
    workbook: bool


def unwrap(path: Path, file: str) -> Unwrapped:
    """The table inside a file, an archive with one member (read, never unpacked to disk) or a gzip stream. Unusable if there is none."""
    if not path.is_file():
        raise Unusable(error(IntakeCode.FILE_MISSING, f"There is no file {file}.", "Check the path; nothing was read.", file=file))
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(file)
    return _unwrap(path.read_bytes(), file, nested=False)


def _unwrap(content: bytes, file: str, nested: bool) -> Unwrapped:
    if not content.strip(b"\0 \t\r\n"):
        raise Unusable(error(IntakeCode.EMPTY_FILE, "The file is empty.", "Export the table again.", file=file))
    if content.startswith(b"PK\x03\x04") or content.startswith(b"PK\x05\x06"):
        return _from_zip(content, file, nested)
    if content.startswith(b"\x1f\x8b"):
        if nested:
            raise _members(file, "an archive inside an archive")
        return _unwrap(_gunzip(content, file), file, nested=True)
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unusable(
            error(
                IntakeCode.OLD_EXCEL,
                "This is an Excel file of the format before 2007, or one with a password.",
                "Save it as XLSX without a password, or as CSV UTF-8.",
                file=file,
            )
        )
    head = content[:2000].lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise Unusable(
            error(
                IntakeCode.HTML_PAGE,
                "This is a web page, not a table.",
                "It was probably saved in place of the download: sign in at the source and download the table again.",
                file=file,
            )
        )
    return Unwrapped(content, workbook=False)


def _from_zip(content: bytes, file: str, nested: bool) -> Unwrapped:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if any(m.filename == WORKBOOK_PARTS for m in members):
            if sum(m.file_size for m in members) > MAX_BYTES:
                raise _too_large(file)
            return Unwrapped(content, workbook=True)
        if nested or len(members) != 1:
            raise _members(file, "an archive inside an archive" if nested else f"{len(members)} files")
        member = members[0]
        if member.flag_bits & 1:
            raise Unusable(error(IntakeCode.ARCHIVE_UNREADABLE, "The archive has a password.", "Pack the table without one.", file=file))
        if member.file_size > MAX_BYTES:
            raise _too_large(file)
        # The size in the directory may lie: never more than the limit is unpacked. The member's name is not used at all.
        with archive.open(member) as stream:
            inner = stream.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as reason:
        raise _unreadable(file) from reason
    if len(inner) > MAX_BYTES:
        raise _too_large(file)
    return _unwrap(inner, file, nested=True)


def _gunzip(content: bytes, file: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            inner = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as reason:
        raise _unreadable(file) from reason
    if len(inner) > MAX_BYTES:
        raise _too_large(file)
    return inner


def decode(content: bytes, file: str) -> tuple[str, str, list[Finding]]:
    """(text, encoding, findings). UTF-8 and UTF-16 are certain; anything else is read as Windows-1252 and said so, with the place."""
    encoding = _declared(content)
    if encoding:
        try:
            return content.decode(encoding), encoding, []
        except UnicodeDecodeError as reason:
            place = content[: reason.start].decode(encoding, "ignore").count("\n") + 1
            raise Unusable(
                error(
                    IntakeCode.NOT_A_TABLE,
                    f"The file says it is {encoding}, but byte {reason.start + 1} does not fit that.",
                    "Export the table again as CSV UTF-8.",
                    file=file,
                    where=f"row {place}",
                )
            ) from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as reason:
        return _guess_single_byte(content, file, reason.start)
    if "\0" in text:
        raise _binary(file)
    return text, "utf-8", []


def _declared(content: bytes) -> str:
    """The encoding that a byte order mark, or the zero bytes of UTF-16 without one, give away; "" otherwise."""
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = content[:400]
    if len(head) >= 8 and len(content) % 2 == 0:
        if head[1::2].count(0) > len(head) * 0.4 and not head[::2].count(0):
            return "utf-16-le"
        if head[::2].count(0) > len(head) * 0.4 and not head[1::2].count(0):
            return "utf-16-be"
    return ""


def _guess_single_byte(content: bytes, file: str, at: int) -> tuple[str, str, list[Finding]]:
    controls = sum(content[:4096].count(code) for code in range(32) if code not in (9, 10, 12, 13))
    if controls > len(content[:4096]) * 0.01:
        raise _binary(file)
    try:
        text, encoding = content.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        text, encoding = content.decode("latin-1"), "latin-1"
    row = content[:at].count(b"\n") + 1
    sample = text[max(0, at - 12) : at + 12].replace("\n", " ").replace("\r", " ").strip()
    finding = warning(
        IntakeCode.ENCODING_NOT_UTF8,
        f"The file is not UTF-8: byte {at + 1} (0x{content[at]:02x}) in row {row} does not fit. "
        f"It was read as {encoding}, there: {sample!r}.",
        "Look whether letters with accents are right in the preview; else save the table as CSV UTF-8.",
        file=file,
        where=f"row {row}",
    )
    return text, encoding, [finding]


def _binary(file: str) -> Unusable:
    return Unusable(
        error(IntakeCode.NOT_A_TABLE, "This is not a text table and not an XLSX workbook.", "Export it as CSV UTF-8.", file=file)
    )


def _members(file: str, what: str) -> Unusable:
    return Unusable(
        error(
            IntakeCode.ARCHIVE_MEMBERS,
            f"The archive holds {what}; exactly one table is expected.",
            "Pack each table on its own, or do not pack.",
            file=file,
        )
    )


def _unreadable(file: str) -> Unusable:
    return Unusable(error(IntakeCode.ARCHIVE_UNREADABLE, "The archive is damaged or incomplete.", "Pack it or copy it again.", file=file))


def _too_large(file: str) -> Unusable:
    return Unusable(
        error(
            IntakeCode.TABLE_TOO_LARGE,
            f"The table has more than {MAX_BYTES >> 20} MB.",
            "Leave out columns that are not clinical (expression, images).",
            file=file,
        )
    )
