"""Archives are looked into before anything is unpacked: links, ways out of the folder, deep folders and bombs are named."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ml.slides.findings import Finding, FindingCode, Severity

MAX_DEPTH = 8
MAX_NAME = 1024
# Real slides have a few hundred files at most; each is held against all others to find those that belong together.
MAX_MEMBERS = 2000
MAX_BYTES = 200 * 1024**3
MAX_RATIO = 200.0


@dataclass(frozen=True)
class Member:
    """One entry of an archive. odd: a link, device or pipe. size: bytes when unpacked."""

    name: str
    odd: bool
    size: int


def archive_findings(path: Path, kind: str, max_members: int = MAX_MEMBERS) -> list[Finding]:
    """What speaks against an archive; always at least one finding, because an archive is no slide (see `unpack`)."""
    members: list[Member] = []
    total, most = 0, min(MAX_BYTES, MAX_RATIO * max(path.stat().st_size, 1))
    try:
        for member in _tar_members(path) if kind in {"tar", "gzip"} else _zip_members(path):
            members.append(member)
            total += member.size
            if len(members) > max_members or total > most:  # the next name of a packed tar lies behind all of these bytes
                break
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        hint = "Make it again, or import the slides themselves."
        return [_error(path, FindingCode.ARCHIVE_UNREADABLE, f"The archive cannot be read ({error}).", hint)]
    found = (_links(path, members), _escapes(path, members), _deep(path, members), _large(path, members, max_members))
    findings = [finding for finding in found if finding]
    if findings:
        return findings
    hint = "Pack one slide with all its files (DICOM: all files of its series), or import the slides themselves."
    return [_error(path, FindingCode.ARCHIVE_NOT_UNPACKED, f"This is an archive of {len(members)} entries, not one slide.", hint)]


def unpack(path: Path, kind: str, folder: Path) -> bool:
    """Unpacks an archive of plain files into an empty folder; False if anything speaks against it (the check says what).

    Names are taken over below the folder only; at most as many bytes are written as the archive states and MAX_BYTES allows.
    OSError of a full disk goes on.
    """
    if [finding.code for finding in archive_findings(path, kind)] != [FindingCode.ARCHIVE_NOT_UNPACKED]:
        return False
    left = MAX_BYTES
    try:
        for name, stream in _contents(path, kind):
            parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in {".", ".."}]
            if not parts or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
                continue
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                while block := stream.read(min(1 << 20, left + 1)):
                    left -= len(block)
                    if left < 0:
                        return False
                    out.write(block)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, FileExistsError, NotADirectoryError):
        return False
    return True


def _contents(path: Path, kind: str) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, stream) of every plain file. RuntimeError for one with a password."""
    if kind in {"tar", "gzip"}:
        with tarfile.open(path, "r:*") as archive:
            for entry in archive:
                if entry.isfile() and (stream := archive.extractfile(entry)):
                    yield entry.name, stream
        return
    with zipfile.ZipFile(path) as packed:
        for info in packed.infolist():
            if not info.is_dir():
                with packed.open(info) as stream:
                    yield info.filename, stream


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path, "r:*") as archive:
        for entry in archive:
            yield Member(entry.name, not (entry.isfile() or entry.isdir()), entry.size)


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            yield Member(entry.filename, stat.S_ISLNK(entry.external_attr >> 16), entry.file_size)


def _links(path: Path, members: list[Member]) -> Finding | None:
    odd = [member for member in members if member.odd]
    if not odd:
        return None
    sentence = f"The archive holds {len(odd)} link or special file, which could point outside of it."
    return _error(path, FindingCode.ARCHIVE_LINK, sentence, "Pack plain files only.", odd[0].name)


def _escapes(path: Path, members: list[Member]) -> Finding | None:
    outside = [m for m in members if m.name.startswith(("/", "\\")) or ".." in PurePosixPath(m.name.replace("\\", "/")).parts]
    if not outside:
        return None
    sentence = "The archive names a file outside of its own folder."
    return _error(path, FindingCode.ARCHIVE_ESCAPE, sentence, "Pack it without '..' or absolute paths.", outside[0].name)


def _deep(path: Path, members: list[Member]) -> Finding | None:
    deep = [m for m in members if len(PurePosixPath(m.name).parts) > MAX_DEPTH or len(m.name) > MAX_NAME]
    if not deep:
        return None
    depth = max(len(PurePosixPath(m.name).parts) for m in deep)
    sentence = f"The archive nests {depth} folders; at most {MAX_DEPTH} are taken."
    return _error(path, FindingCode.ARCHIVE_TOO_DEEP, sentence, "Pack the slides flat.", deep[0].name)


def _large(path: Path, members: list[Member], max_members: int) -> Finding | None:
    total = sum(m.size for m in members)
    ratio = total / max(path.stat().st_size, 1)
    if len(members) <= max_members and total <= MAX_BYTES and ratio <= MAX_RATIO:
        return None
    sentence = (
        f"The archive would unpack to {total / 1024**3:.1f} GiB or more in {len(members)} or more entries, {ratio:.0f} times its size."
    )
    return _error(path, FindingCode.ARCHIVE_TOO_LARGE, sentence, "Import the slides one by one.")


def _error(path: Path, code: FindingCode, sentence: str, hint: str, where: str = "") -> Finding:
    return Finding(code, Severity.ERROR, path.name, where[:120], sentence, hint)
