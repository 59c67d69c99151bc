"""Multi-channel images as they come: one TIFF, a folder or zip with one TIFF per marker or with a stack and its panel, an OME-Zarr.

Planes are read in bands of rows, so that an image of any height needs the memory of a band. Nothing is ever read from a file beside the
one that was given.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ml.multiplex.header import MAX_PLANES, Layout, cleaned
from ml.multiplex.panels import MAX_BYTES, is_panel, panel_or_warning
from ml.multiplex.tiff_file import MultiplexFile, finding_of, open_tiff, same_shape
from ml.multiplex.zarr_input import MAX_MEMBERS, open_zarr, zarr_root
from ml.slides.archives import archive_findings
from ml.slides.findings import FindingCode, Severity, SlideError
from ml.slides.sniff import content_kind

SUFFIXES = (".tif", ".tiff")


@contextmanager
def open_multiplex(path: str | Path) -> Iterator[MultiplexFile]:
    """Opens a TIFF, an OME-Zarr, or a folder or zip of one or of TIFFs. SlideError where it cannot be read as a multi-channel image."""
    path = Path(path)
    if not path.exists():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
    if path.is_dir() and zarr_root([p.name for p in (*path.iterdir(), *path.glob("*/*"))]):
        with open_zarr(path) as opened:
            yield opened
        return
    if path.is_dir():
        with _folder(path.name, _files_in(path)) as opened:
            yield opened
        return
    kind = content_kind(path)
    if kind == "empty":
        raise SlideError(FindingCode.EMPTY_FILE, "The file is empty (0 bytes).", "The copy failed: copy it again.")
    if kind == "zip":
        with _zipped(path) as opened:
            yield opened
    elif kind == "tiff":
        with open_tiff(path) as opened:
            yield opened
    else:
        raise SlideError(
            FindingCode.UNSUPPORTED_FORMAT,
            f"This is no multi-channel TIFF (its content is {kind}).",
            "Export it as OME-TIFF, or send a zip with one TIFF per marker or with an OME-Zarr.",
        )


@contextmanager
def _zipped(path: Path) -> Iterator[MultiplexFile]:
    """Members are unpacked one at a time into a folder of their own, under names of ours; a zarr is read where it lies."""
    zarr = _holds_zarr(path)
    found = archive_findings(path, "zip", MAX_MEMBERS) if zarr else archive_findings(path, "zip")
    errors = [f for f in found if f.code != FindingCode.ARCHIVE_NOT_UNPACKED]
    if errors:
        raise SlideError(FindingCode(errors[0].code), errors[0].sentence, errors[0].hint, errors[0].where)
    if zarr:
        with open_zarr(path) as opened:
            yield opened
        return
    with tempfile.TemporaryDirectory(prefix="multiplex-") as scratch, zipfile.ZipFile(path) as archive:

        def opener(member: str, number: int) -> Callable[[], Any]:
            @contextmanager
            def unpacked() -> Iterator[Path]:
                target = Path(scratch) / f"{number}.tif"
                try:
                    with archive.open(member) as source, target.open("wb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as reason:
                    sentence = f"The archive cannot be unpacked ({type(reason).__name__})."
                    raise SlideError(FindingCode.ARCHIVE_UNREADABLE, sentence, "Make it again without a password.") from reason
                try:
                    yield target
                finally:
                    target.unlink(missing_ok=True)

            return unpacked

        members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        with _folder(path.name, [(m, opener(m, i)) for i, m in enumerate(members)]) as opened:
            yield opened


def _holds_zarr(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return zarr_root(archive.namelist())
    except zipfile.BadZipFile:
        return False  # archive_findings says what is wrong


def _files_in(folder: Path) -> list[tuple[str, Callable[[], Any]]]:
    def opener(path: Path) -> Callable[[], Any]:
        @contextmanager
        def there() -> Iterator[Path]:
            yield path

        return there

    return [(p.name, opener(p)) for p in folder.iterdir() if p.is_file()]


@contextmanager
def _folder(name: str, files: list[tuple[str, Callable[[], Any]]]) -> Iterator[MultiplexFile]:
    """The TIFFs of a folder as channels, named by their files, in the order of their names."""
    pictures = [(PurePosixPath(member.replace("\\", "/")), open_) for member, open_ in files]
    pictures = [(p, o) for p, o in pictures if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and "__MACOSX" not in p.parts]
    pictures.sort(key=lambda one: _natural(one[0].stem))
    if not pictures:
        raise SlideError(FindingCode.NOT_MULTIPLEX, f"There is no TIFF in {name}.", "Pack one TIFF per marker, named by the marker.")
    folders = {str(p.parent) for p, _ in pictures}
    if len(pictures) == 1 and _is_stack(pictures[0][1]):
        with _stack(name, pictures[0][1], files) as opened:
            yield opened
        return
    findings = []
    if len(folders) > 1:
        sentence = f"The TIFFs lie in {len(folders)} folders; the markers of one image belong into one."
        findings.append(finding_of(name, FindingCode.CHANNELS_DIFFER, Severity.ERROR, sentence, "Send one zip per image."))
    if (others := len(files) - len(pictures)) > 0:
        sentence = f"{others} of the files are no TIFF; they are left out."
        findings.append(finding_of(name, FindingCode.OTHER_FILES, Severity.INFO, sentence, "Nothing to do."))
    heads: list[Any] = []
    mpp_xy, private = None, []
    for picture, open_ in pictures[:MAX_PLANES]:
        with open_() as place, open_tiff(place) as one:
            if one.n_channels != 1:
                sentence = f"A file holds {one.n_channels} channels; one TIFF per marker is expected."
                raise SlideError(FindingCode.CHANNELS_DIFFER, sentence, "Import it by itself, or split it.", picture.name)
            heads.append(one)
            mpp_xy = mpp_xy or one.mpp_xy
            bad = [f for f in one.findings if f.severity == Severity.ERROR]
            if bad:
                raise SlideError(FindingCode(bad[0].code), bad[0].sentence, bad[0].hint, picture.name)
            private += [f.where for f in one.findings if f.code == FindingCode.IDENTIFIERS_IN_HEADER]
    findings += same_shape(name, [(p.name, one) for (p, _), one in zip(pictures, heads)])
    if private:
        sentence = f"Header fields of {len(private)} files may identify the patient; the image is made without them."
        where = ", ".join(dict.fromkeys(private))[:200]
        findings.append(finding_of(name, FindingCode.IDENTIFIERS_IN_HEADER, Severity.INFO, sentence, "Nothing to do.", where))
    # The name of a single file may be the patient's as well as the marker's: nothing tells which, so a person is asked.
    names = without_common_start([p.stem for p, _ in pictures]) if len(pictures) > 1 else None
    layout = Layout("TIFF per marker", [], names, mpp_xy)

    @contextmanager
    def plane(channel: int) -> Iterator[Any]:
        with pictures[channel][1]() as place, open_tiff(place) as one, one.plane(0) as found:
            yield found

    first = heads[0]
    yield MultiplexFile(name, layout, len(pictures), (first.height, first.width), first.dtype, findings, plane)


def _is_stack(open_: Callable[[], Any]) -> bool:
    with open_() as place, open_tiff(place) as one:
        return one.n_channels > 1


@contextmanager
def _stack(name: str, open_: Callable[[], Any], files: list[tuple[str, Callable[[], Any]]]) -> Iterator[MultiplexFile]:
    """One stack, with the panel that lies beside it if there is one (steinbock)."""
    panels = sorted((member for member in files if is_panel(member[0])), key=lambda member: member[0])
    with open_() as place, open_tiff(place) as one:
        one.name, one.findings = name, [replace(f, file=name) for f in one.findings]
        if others := len(files) - 1 - len(panels[:1]):
            sentence = f"{others} of the files are neither the stack nor its panel; they are left out."
            one.findings.append(finding_of(name, FindingCode.OTHER_FILES, Severity.INFO, sentence, "Nothing to do."))
        if panels:
            with panels[0][1]() as panel, Path(panel).open("rb") as handle:
                one.panel = panel_or_warning(name, handle.read(MAX_BYTES + 1), one.findings)
        yield one


def without_common_start(stems: list[str]) -> list[str]:
    """Markers from file names: what all names begin with, up to a separator, is the name of the image and is dropped."""
    common = _common_start(min(stems), max(stems)) if len(stems) > 1 else ""
    cut = max((common.rfind(mark) for mark in "_-. "), default=-1) + 1
    return [cleaned(stem[cut:]) or cleaned(stem) for stem in stems]


def _common_start(one: str, other: str) -> str:
    """What two texts begin with; of the first and last of many texts: what all of them begin with."""
    same = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return one[:same]


def _natural(text: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", text) if part]
