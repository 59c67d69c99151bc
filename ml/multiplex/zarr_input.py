"""OME-Zarr images that come in: 0.4 (zarr format 2) and 0.5 (zarr format 3, with shards or without), as a folder or inside a zip.

A reader of zarr gives the fill value where a chunk's file is missing, without a word: an image that was copied in part would have
holes without signal. So every chunk file of the finest level has to be there. What the metadata ask for is checked before any array is
opened: numbers only, and compressors of a list, because other codecs can run code of the file's author. OME-NGFF 0.4 and 0.5.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.header import MAX_PLANES, UNITS_UM, Layout, named
from ml.multiplex.panels import is_panel, panel_or_warning
from ml.multiplex.tiff_file import MultiplexFile, finding_of
from ml.slides.archives import MAX_BYTES
from ml.slides.findings import Finding, FindingCode, Severity, SlideError

MARKS = ("zarr.json", ".zgroup", ".zattrs")
MAX_MEMBERS = 200_000
MAX_METADATA = 4 << 20
UNITS = UNITS_UM | {
    **dict.fromkeys(("nanometer", "nanometre"), 1e-3), **dict.fromkeys(("millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("centimeter", "centimetre"), 1e4), **dict.fromkeys(("meter", "metre"), 1e6), "angstrom": 1e-4, "picometer": 1e-6,
}  # fmt: skip
DTYPES = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bool"}
CODECS = {"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"}
COMPRESSORS = {"blosc", "zlib", "gzip", "bz2", "lz4", "lzma", "zstd"}
FILTERS = {"delta", "shuffle", "bitround", "crc32", "adler32", "fletcher32"}
COPY_HINT = "Copy the whole folder again; if zeros were left out on purpose, write it again with write_empty_chunks=True."
WRITE_HINT = "Write it again as OME-Zarr 0.4 or 0.5 with the axes c, y, x."


@dataclass(frozen=True)
class ZarrFiles:
    """The files of a zarr. sizes: bytes by path; read: the bytes of one; path: of the folder or the zip."""

    path: Path
    zipped: bool
    sizes: Mapping[str, int]

    def read(self, name: str) -> bytes:
        if self.sizes[name] > MAX_METADATA:
            raise _unreadable(f"{name[-60:]} has {self.sizes[name]} bytes")
        if not self.zipped:
            return (self.path / name).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    def json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.read(name))
        except (ValueError, RecursionError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as reason:
            raise _unreadable(f"{name[-60:]} is damaged") from reason
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Array:
    """The finest level. path: inside the zarr. grid: side of a chunk file per axis. missing: of `files` chunk files."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    missing: int
    files: int
    first_missing: str


def zarr_root(names: Iterator[str] | list[str]) -> bool:
    """Whether a list of files holds a zarr."""
    return any(PurePosixPath(name).name in MARKS for name in names)


@contextmanager
def open_zarr(path: Path) -> Iterator[MultiplexFile]:
    """Opens a folder or a zip that holds one OME-Zarr image. SlideError ZARR_UNREADABLE, ZARR_CHUNKS_MISSING, NOT_MULTIPLEX,
    STACK_NOT_FLAT, SEVERAL_IMAGES, ARCHIVE_TOO_LARGE."""
    files = _files(path)
    root, version, attributes = _image(files)
    multiscale = attributes["multiscales"][0]
    axes, array, scale = _described(files, root, multiscale)
    if array.missing:
        share = "all" if array.missing == array.files else str(array.missing)
        sentence = f"{share.capitalize()} of the {array.files} chunk files of the finest level are missing; they would be read as zeros."
        raise SlideError(FindingCode.ZARR_CHUNKS_MISSING, sentence, COPY_HINT, array.first_missing[-120:])
    if math.prod(array.shape) * array.dtype.itemsize > MAX_BYTES:
        sentence = f"The image would unpack to {math.prod(array.shape) * array.dtype.itemsize / 2**30:.0f} GiB."
        raise SlideError(FindingCode.ARCHIVE_TOO_LARGE, sentence, "Import a part of it.", array.path)
    sizes = dict(zip(axes, array.shape))
    depth, times, n = sizes.get("z", 1), sizes.get("t", 1), sizes.get("c", 1)
    if depth > 1 or times > 1:
        sentence = f"The image has {depth} focal planes and {times} time points; a flat image of channels is needed."
        raise SlideError(FindingCode.STACK_NOT_FLAT, sentence, "Make a projection, or save one plane, and import that.")
    if n > MAX_PLANES or min(sizes["y"], sizes["x"]) < 1:
        sentence = f"The image has {n} channels of {sizes['x']} x {sizes['y']} pixels."
        raise SlideError(FindingCode.NOT_MULTIPLEX, sentence, "Export it again.")
    findings, names = _names(path.name, attributes, n)
    layout = Layout(f"OME-Zarr {version}", [], names, scale)
    with tempfile.TemporaryDirectory(prefix="multiplex-") as scratch:
        cube = _Cube(_opened(files, array), axes, n, array.dtype.newbyteorder("="), Path(scratch))

        @contextmanager
        def plane(channel: int) -> Iterator[_Plane]:
            yield _Plane(cube, channel)

        opened = MultiplexFile(path.name, layout, n, (sizes["y"], sizes["x"]), cube.dtype, findings, plane)
        panels = sorted(name for name in files.sizes if is_panel(name) and "__MACOSX" not in name)
        opened.panel = panel_or_warning(path.name, files.read(panels[0]), findings) if panels else None
        yield opened


def _files(path: Path) -> ZarrFiles:
    if path.is_dir():
        found = {}
        for file in path.rglob("*"):
            if file.is_file() and not file.is_symlink():  # a link could point to anybody's file
                found[file.relative_to(path).as_posix()] = file.stat().st_size
                if len(found) > MAX_MEMBERS:
                    raise SlideError(FindingCode.ARCHIVE_TOO_LARGE, f"The folder has more than {MAX_MEMBERS} files.", "Use larger chunks.")
        return ZarrFiles(path, False, found)
    with zipfile.ZipFile(path) as archive:
        return ZarrFiles(path, True, {e.filename: e.file_size for e in archive.infolist() if not e.is_dir()})


def _image(files: ZarrFiles) -> tuple[str, str, dict[str, Any]]:
    """(folder of the image's group, version, its OME attributes)."""
    found = []
    for name in files.sizes:
        place = PurePosixPath(name)
        if place.name not in ("zarr.json", ".zattrs") or "labels" in place.parts or "__MACOSX" in place.parts:
            continue
        head = files.json(name)
        attributes = head if place.name == ".zattrs" else head.get("attributes")
        attributes = attributes.get("ome", attributes) if isinstance(attributes, dict) else {}
        if isinstance(attributes, dict) and isinstance(attributes.get("multiscales"), list) and attributes["multiscales"]:
            version = "0.4" if place.name == ".zattrs" else "0.5"
            found.append(("" if str(place.parent) == "." else f"{place.parent}/", version, attributes))
    if not found:
        raise _unreadable("it holds no OME image (multiscales)")
    if len(found) > 1:
        sentence = f"The zarr holds {len(found)} images; one is wanted."
        raise SlideError(FindingCode.SEVERAL_IMAGES, sentence, "Send one OME-Zarr per image.", found[1][0][-80:])
    return found[0]


def _described(files: ZarrFiles, root: str, multiscale: Any) -> tuple[list[str], Array, tuple[float, float] | None]:
    """(names of the axes, the finest level, um per pixel in x and y)."""
    try:
        axes = [dict(axis) for axis in multiscale["axes"]]
        names = [str(axis["name"]) for axis in axes]
        first = multiscale["datasets"][0]
        path = PurePosixPath(str(first["path"]))
    except (KeyError, TypeError, ValueError, IndexError) as reason:
        raise _unreadable(f"its axes and levels are not described ({type(reason).__name__})", WRITE_HINT) from reason
    if names[-2:] != ["y", "x"] or len(set(names)) != len(names) or not set(names) <= set("tczyx"):
        raise _unreadable(f"its axes are {', '.join(names)[:40]}", WRITE_HINT)
    if ".." in path.parts or path.is_absolute():
        raise _unreadable("its first level lies outside of it")
    array = _array(files, f"{root}{path}", len(names))
    factors = [1.0] * len(names)
    for step in [*(first.get("coordinateTransformations") or []), *(multiscale.get("coordinateTransformations") or [])]:
        if isinstance(step, dict) and step.get("type") == "scale":
            values = step.get("scale")
            if not isinstance(values, list) or len(values) != len(names) or not all(type(v) in (int, float) for v in values):
                return names, array, None
            factors = [a * b for a, b in zip(factors, values)]
    um = [factor * UNITS.get(str(axis.get("unit", "")), math.nan) for factor, axis in zip(factors, axes)][-2:]
    return names, array, (um[1], um[0]) if all(0 < v < math.inf for v in um) else None


def _array(files: ZarrFiles, path: str, n_axes: int) -> Array:
    """What the metadata of an array say, checked; and which of its chunk files are not there."""
    try:
        if f"{path}/zarr.json" in files.sizes:
            shape, dtype, grid, prefix, separator = _of_format_3(files.json(f"{path}/zarr.json"))
        elif f"{path}/.zarray" in files.sizes:
            shape, dtype, grid, prefix, separator = _of_format_2(files.json(f"{path}/.zarray"))
        else:
            raise _unreadable(f"the level {path[-40:]} is not there", COPY_HINT)
        if len(shape) != n_axes or len(grid) != n_axes or min(*shape, *grid, 1) < 1 or separator not in ("/", "."):
            raise ValueError("shape")
    except (KeyError, TypeError, ValueError, AttributeError) as reason:
        raise _unreadable(f"the level {path[-40:]} is not described ({type(reason).__name__})") from reason
    counts = [-(-side // step) for side, step in zip(shape, grid)]
    total = math.prod(counts)
    if total > MAX_MEMBERS:
        sentence = f"The finest level has {total} chunk files; at most {MAX_MEMBERS} are taken."
        raise SlideError(FindingCode.ARCHIVE_TOO_LARGE, sentence, "Write it with larger chunks or with shards.")
    missing, first = 0, ""
    for place in itertools.product(*map(range, counts)):
        name = f"{path}/{prefix}{separator.join(map(str, place))}"
        if files.sizes.get(name, 0) == 0:
            missing, first = missing + 1, first or name
    return Array(path, shape, dtype, missing, total, first)


def _of_format_3(head: dict[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...], str, str]:
    kind = head["data_type"]
    if kind not in DTYPES or head.get("storage_transformers"):
        raise _unreadable(f"numbers of the type {str(kind)[:40]} are not read")
    _codecs_known(head["codecs"])
    encoding = head["chunk_key_encoding"]
    separator = (encoding.get("configuration") or {}).get("separator", "/" if encoding["name"] == "default" else ".")
    if head["chunk_grid"]["name"] != "regular" or encoding["name"] not in ("default", "v2"):
        raise ValueError("grid")
    grid = tuple(map(int, head["chunk_grid"]["configuration"]["chunk_shape"]))
    return tuple(map(int, head["shape"])), np.dtype(kind), grid, f"c{separator}" if encoding["name"] == "default" else "", separator


def _codecs_known(codecs: Any) -> None:
    for codec in codecs:
        name = codec if isinstance(codec, str) else codec["name"]
        if name not in CODECS:
            raise _unreadable(f"the codec {str(name)[:40]} is not read", "Write it again with blosc or zstd.")
        if name == "sharding_indexed":
            inner = codec["configuration"]
            _codecs_known([*inner["codecs"], *inner["index_codecs"]])


def _of_format_2(head: dict[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...], str, str]:
    kind = head["dtype"]
    if not isinstance(kind, str) or not re.fullmatch(r"[<>|=][iufb][1248]", kind):
        raise _unreadable(f"numbers of the type {str(kind)[:40]} are not read")
    compressor = head.get("compressor") or {}
    used = [compressor["id"]] if compressor else []
    if not set(used) <= COMPRESSORS or not {one["id"] for one in head.get("filters") or []} <= FILTERS:
        raise _unreadable("it is packed in a way that is not read", "Write it again with blosc or zstd.")
    return tuple(map(int, head["shape"])), np.dtype(kind), tuple(map(int, head["chunks"])), "", head.get("dimension_separator", ".")


def _names(file: str, attributes: dict[str, Any], n: int) -> tuple[list[Finding], list[str] | None]:
    """Names from omero.channels; what else may identify is counted and stays behind."""
    findings = []
    omero = attributes.get("omero") if isinstance(attributes.get("omero"), dict) else {}
    channels = omero.get("channels") if isinstance(omero, dict) else None
    labels = [str(c.get("label", "")) if isinstance(c, dict) else "" for c in channels] if isinstance(channels, list) else None
    if labels is not None and len(labels) != n:
        sentence = f"The zarr names {len(labels)} channels, but has {n}; its names are not taken."
        findings.append(finding_of(file, FindingCode.METADATA_BROKEN, Severity.WARNING, sentence, "Give the names yourself.", "omero"))
        labels = None
    holders = (("multiscales name", attributes["multiscales"][0]), ("omero name", omero))
    private = [key for key, holder in holders if isinstance(holder, dict) and holder.get("name")]
    if private:
        sentence = f"{len(private)} of the zarr's fields may identify the patient or the file; the image is made without them."
        findings.append(finding_of(file, FindingCode.IDENTIFIERS_IN_HEADER, Severity.INFO, sentence, "Nothing to do.", ", ".join(private)))
    return findings, named(labels) if labels else None


def _opened(files: ZarrFiles, array: Array) -> Any:
    import zarr

    try:
        store: Any = zarr.storage.ZipStore(files.path) if files.zipped else str(files.path)
        return zarr.open_array(store, path=array.path, mode="r")
    except Exception as reason:
        raise _unreadable(f"the level {array.path[-40:]} cannot be opened ({type(reason).__name__})") from reason


class _Cube:
    """The finest level, read in bands of rows of one channel. dtype: in the machine's byte order."""

    def __init__(self, array: Any, axes: list[str], n: int, dtype: np.dtype[Any], scratch: Path) -> None:
        self.array, self.axes, self.n, self.dtype, self.scratch = array, axes, n, dtype, scratch
        self.height, self.width = (int(v) for v in array.shape[-2:])
        self._tall = int(array.chunks[-2])
        self._deep = "c" in axes and int(array.chunks[axes.index("c")]) > 1
        self._spilled: NDArray[Any] | None = None
        self._at, self._band = (-1, -1), np.empty((0, 0), dtype)

    def rows(self, channel: int, start: int, stop: int) -> NDArray[Any]:
        if self._deep:
            # A chunk holds several channels: unpacked once to a file, because channels are read one after the other.
            if self._spilled is None:
                self._spilled = self._spill()
            return np.array(self._spilled[channel, start:stop])
        out = np.empty((stop - start, self.width), self.dtype)
        for block in range(start // self._tall, -(-stop // self._tall)):
            top = block * self._tall
            if (channel, block) != self._at:
                self._band = self._read(channel, slice(top, min(top + self._tall, self.height)))
                self._at = (channel, block)
            a, b = max(start, top), min(stop, top + len(self._band))
            out[a - start : b - start] = self._band[a - top : b - top]
        return out

    def _read(self, channel: int | slice, rows: slice, cols: slice = slice(None)) -> NDArray[Any]:
        places = {"c": channel, "z": 0, "t": 0, "y": rows, "x": cols}
        return np.asarray(self.array[tuple(places[axis] for axis in self.axes)]).astype(self.dtype, copy=False)

    def _spill(self) -> NDArray[Any]:
        spilled: NDArray[Any] = np.memmap(self.scratch / "cube.raw", self.dtype, "w+", shape=(self.n, self.height, self.width))
        deep, wide = int(self.array.chunks[self.axes.index("c")]), int(self.array.chunks[-1])
        for c, y, x in itertools.product(range(0, self.n, deep), range(0, self.height, self._tall), range(0, self.width, wide)):
            part = (slice(c, c + deep), slice(y, y + self._tall), slice(x, x + wide))
            spilled[part] = self._read(*part)
        return spilled


class _Plane:
    """One channel of a zarr, with the reading of ml.multiplex.tiff_file.Plane."""

    def __init__(self, cube: _Cube, channel: int) -> None:
        self.cube, self.channel = cube, channel
        self.width, self.height, self.dtype = cube.width, cube.height, cube.dtype

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, width). SlideError TILE_UNREADABLE where a chunk cannot be decoded."""
        try:
            return self.cube.rows(self.channel, start, stop)
        except (SlideError, MemoryError):
            raise
        except OSError as reason:
            if reason.errno is not None:  # a full disk, a lost drive: no verdict on the file
                raise
            raise self._undecoded(start, reason) from reason
        except Exception as reason:
            raise self._undecoded(start, reason) from reason

    def _undecoded(self, start: int, reason: Exception) -> SlideError:
        sentence = f"A chunk of the image cannot be decoded ({type(reason).__name__})."
        return SlideError(FindingCode.TILE_UNREADABLE, sentence, "Copy the zarr again.", f"channel {self.channel + 1}, row {start}")


def _unreadable(why: str, hint: str = "Copy it again, or write it again as OME-Zarr 0.4 or 0.5.") -> SlideError:
    return SlideError(FindingCode.ZARR_UNREADABLE, f"The zarr cannot be read: {why}.", hint)
