"""One multi-channel TIFF with a plane per channel, read in bands of rows, so that an image of any height needs the memory of a band."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.header import MAX_PLANES, HeaderBroken, Layout, layout_of, plain
from ml.multiplex.panels import PanelRow
from ml.slides.findings import Finding, FindingCode, Severity, SlideError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)
MAX_SEGMENT_BYTES = 1 << 30


class Plane:
    """One channel of a TIFF. width, height: px. dtype: as stored, in the machine's byte order."""

    def __init__(self, tif: Any, page: Any, sample: int, offset: int | None = None) -> None:
        self.tif, self.page, self.sample, self.offset = tif, page, sample, offset
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.dtype = np.dtype(page.dtype) if page.dtype is not None else np.dtype("V1")
        self._row, self._decoded = -1, np.empty((0, 0))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, width) of the stored type. SlideError TILE_UNREADABLE where the file cannot be decoded."""
        try:
            return self._raw(start, stop) if self.offset is not None else self._stored(start, stop)
        except SlideError:
            raise
        except MemoryError:
            raise
        except Exception as reason:
            raise self._unreadable(start, type(reason).__name__) from reason

    def _raw(self, start: int, stop: int) -> NDArray[Any]:
        """Rows of a plane that follows another one without an IFD of its own (ImageJ's large stacks)."""
        handle = self.tif.filehandle
        stored = self.dtype.newbyteorder(self.tif.byteorder)
        handle.seek(self.offset + start * self.width * stored.itemsize)
        flat = np.frombuffer(handle.read((stop - start) * self.width * stored.itemsize), stored)
        return flat.reshape(stop - start, self.width).astype(self.dtype, copy=False)

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        page = self.page
        if page.compression == 1 and not page.is_tiled and page.is_contiguous and page.samplesperpixel == 1 and page.fillorder == 1:
            return Plane(self.tif, page, 0, page.dataoffsets[0])._raw(start, stop)
        tall = self._segment_rows()
        out = np.empty((stop - start, self.width), self.dtype)
        for row in range(start // tall, -(-stop // tall)):
            band = self._band(row)
            top = row * tall
            a, b = max(start, top), min(stop, top + len(band))
            out[a - start : b - start] = band[a - top : b - top]
        return out

    def _segment_rows(self) -> int:
        page = self.page
        return int(page.tilelength) if page.is_tiled else min(int(page.rowsperstrip or self.height), self.height)

    def _band(self, row: int) -> NDArray[Any]:
        """All segments of one row of tiles, or one strip, decoded; the last one is kept, because bands rarely end where strips do."""
        if row == self._row:
            return self._decoded
        page, tall = self.page, self._segment_rows()
        wide = int(page.tilewidth) if page.is_tiled else self.width
        across, down = -(-self.width // wide), -(-self.height // tall)
        samples = 1 if page.planarconfig == 2 else page.samplesperpixel
        if tall * self.width * samples * self.dtype.itemsize > MAX_SEGMENT_BYTES:
            raise self._unreadable(row * tall, "a strip or row of tiles is larger than 1 GiB", "Save it with tiles of 512 pixels.")
        first = (self.sample if page.planarconfig == 2 else 0) * across * down + row * across
        indices = range(first, first + across)
        band = np.zeros((min(tall, self.height - row * tall), self.width), self.dtype)
        places = [(page.dataoffsets[i], page.databytecounts[i]) for i in indices]
        if any(size == 0 for _, size in places):
            raise self._unreadable(row * tall, "a tile holds no data")
        if max(at + size for at, size in places) > self.tif.filehandle.size:
            raise self._unreadable(row * tall, "the file ends before its picture", "The copy is incomplete: copy it again.")
        read = self.tif.filehandle.read_segments([at for at, _ in places], [size for _, size in places], indices=list(indices))
        for data, index in read:
            tile, _, shape = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            col = index - first
            kept = tile[0, ..., 0 if page.planarconfig == 2 else self.sample]
            width = min(wide, self.width - col * wide, shape[2])
            band[: min(len(band), shape[1]), col * wide : col * wide + width] = kept[: len(band), :width]
        self._row, self._decoded = row, band
        return band

    def _unreadable(self, row: int, why: str, hint: str = "Copy or export the file again.") -> SlideError:
        where = f"IFD {self.page.index}, row {row}"
        return SlideError(FindingCode.TILE_UNREADABLE, f"The picture cannot be decoded here ({why}).", hint, where)


class MultiplexFile:
    """An open multi-channel image. `findings` are what its header and shape say; `plane(i)` opens a channel for reading.

    format: OME-TIFF, QPTIFF, ImageJ, TIFF, TIFF per marker or OME-Zarr. names: as the file says, None if it does not. width, height: px.
    dtype: of all channels. mpp_xy: um per pixel, None if not stated. panel: of the file beside a stack; it names the channels.
    """

    def __init__(self, name: str, layout: Layout, n: int, shape: tuple[int, int], dtype: Any, findings: list[Finding], open_: Any) -> None:
        self.name, self.format, self.n_channels = name, layout.source, n
        self.names, self.mpp_xy = layout.names, layout.mpp_xy
        self.height, self.width = shape
        self.dtype = np.dtype(dtype)
        self.findings = findings
        self.panel: list[PanelRow] | None = None
        self._open: Callable[[int], Any] = open_

    def plane(self, channel: int) -> Any:
        """A context manager that gives the Plane of a channel."""
        return self._open(channel)


@contextmanager
def open_tiff(path: Path) -> Iterator[MultiplexFile]:
    import tifffile

    try:
        tif = tifffile.TiffFile(path)
    except Exception as reason:
        raise _broken(reason) from reason
    with tif:
        try:
            pages = [tif.pages[i] for i in range(min(len(tif.pages), MAX_PLANES))]
            imagej = tif.imagej_metadata if tif.is_imagej else None
            more = _chain_goes_on(tif) and len(pages) < MAX_PLANES
        except Exception as reason:
            raise _broken(reason) from reason
        if not pages:
            raise _broken(ValueError("no pictures"))
        if more:
            sentence = f"The list of pictures goes on after {len(pages)}, but the file ends."
            raise SlideError(FindingCode.TRUNCATED, sentence, "The copy is incomplete: copy it again.", f"IFD {len(pages)}")
        findings: list[Finding] = []
        try:
            layout = layout_of(pages, imagej)
        except HeaderBroken as reason:
            sentence = f"The description of the channels in the file cannot be read ({reason}); its planes are taken as they come."
            hint, where = "Give the channels' names yourself, or write the file again with valid XML.", "IFD 0, ImageDescription"
            findings.append(finding_of(path.name, FindingCode.METADATA_BROKEN, Severity.WARNING, sentence, hint, where))
            layout = plain(pages, imagej)
        planes = _planes(tif, pages, layout, imagej)
        findings += _shape_findings(path.name, layout, planes)
        first = planes[0] if planes else Plane(tif, pages[0], 0)

        @contextmanager
        def plane(channel: int) -> Iterator[Plane]:
            yield planes[channel]

        yield MultiplexFile(path.name, layout, len(planes), (first.height, first.width), first.dtype, findings, plane)


def _chain_goes_on(tif: Any) -> bool:
    """Whether the last picture that was found names a next one: then the file is cut off, and planes are lost without a word."""
    tif.filehandle.seek(tif.pages.next_page_offset)
    following = tif.filehandle.read(tif.tiff.offsetsize)
    return bool(following) and any(following)


def _planes(tif: Any, pages: list[Any], layout: Layout, imagej: dict[str, Any] | None) -> list[Plane]:
    stated = int((imagej or {}).get("images", 0))
    page = pages[0]
    if imagej and len(pages) == 1 < stated <= MAX_PLANES and page.is_contiguous:
        step = page.nbytes
        return [Plane(tif, page, 0, page.dataoffsets[0] + i * step) for i in range(stated)]
    return [Plane(tif, pages[index], sample) for index, sample in layout.pages]


def _shape_findings(name: str, layout: Layout, planes: list[Plane]) -> list[Finding]:
    """What makes the planes of one TIFF no image of channels; and what of its header is left behind."""
    findings = []
    if layout.parts:
        sentence = f"The image is spread over {layout.parts + 1} files, and only one of them is here."
        hint = "Save it as one OME-TIFF and import that."
        findings.append(finding_of(name, FindingCode.COMPANION_MISSING, Severity.ERROR, sentence, hint, "OME-XML, TiffData"))
    if layout.depth > 1 or layout.times > 1:
        sentence = f"The image has {layout.depth} focal planes and {layout.times} time points; a flat image of channels is needed."
        hint = "Make a projection, or save one plane, and import that."
        findings.append(finding_of(name, FindingCode.STACK_NOT_FLAT, Severity.ERROR, sentence, hint))
    if planes and planes[0].page.photometric == 2 and planes[0].dtype == np.uint8:
        sentence = "This is a colour picture (red, green, blue), not an image of measured channels."
        hint = "If it is a stained slide, import it as a slide."
        findings.append(finding_of(name, FindingCode.NOT_MULTIPLEX, Severity.ERROR, sentence, hint, "IFD 0"))
    if layout.images > 1:
        sentence = f"The file holds {layout.images} images of the same size; the first is taken."
        findings.append(finding_of(name, FindingCode.SEVERAL_IMAGES, Severity.WARNING, sentence, "Save each as a file of its own."))
    findings += same_shape(name, [(f"channel {i}", p) for i, p in enumerate(planes, 1)])
    if layout.private:
        sentence = f"{len(layout.private)} of the header's fields may identify the patient or the file; the image is made without them."
        where = ", ".join(dict.fromkeys(layout.private))[:200]
        findings.append(finding_of(name, FindingCode.IDENTIFIERS_IN_HEADER, Severity.INFO, sentence, "Nothing to do.", where))
    return findings


def same_shape(name: str, planes: list[tuple[str, Any]]) -> list[Finding]:
    if not planes:
        sentence = "The file holds no picture of full size."
        return [finding_of(name, FindingCode.NOT_MULTIPLEX, Severity.ERROR, sentence, "Export the image again.")]
    first = planes[0][1]
    if min(first.width, first.height) < 1:
        return [finding_of(name, FindingCode.TIFF_BROKEN, Severity.ERROR, "The picture has no pixels.", "Export the image again.", "IFD 0")]
    odd = [label for label, p in planes if (p.width, p.height, p.dtype) != (first.width, first.height, first.dtype)]
    if not odd:
        return []
    sentence = f"{len(odd)} channels differ in size or number type from the first ({first.width} x {first.height}, {first.dtype})."
    hint = "Export all channels of the same field with the same settings."
    return [finding_of(name, FindingCode.CHANNELS_DIFFER, Severity.ERROR, sentence, hint, ", ".join(odd[:5]))]


def _broken(reason: Exception) -> SlideError:
    sentence = f"The TIFF structure is damaged ({type(reason).__name__})."
    return SlideError(FindingCode.TIFF_BROKEN, sentence, "Copy or export the file again and compare the sizes.")


def finding_of(file: str, code: FindingCode, severity: Severity, sentence: str, hint: str, where: str = "") -> Finding:
    return Finding(code, severity, file, where, sentence, hint)
