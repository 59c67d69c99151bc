"""A memory-mapped index of weighted sets: `build`, `open`, `updated`, and `top_k`, whose answers are those of comparing with every set.

A folder holds segments (`ml.transport.segment`), the frame they share, which of their sets are live, and a header that is written last.
A finished index never changes: an update is another folder, with the unchanged files linked. How a search goes: `ml.transport.cascade`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.transport.cascade import Search, prepared
from ml.transport.errors import TransportError
from ml.transport.retrieval import TopK
from ml.transport.segment import FILES, Frame, Segment, read_segment, write_segment
from ml.transport.store import HEADER, Facts, broken, check, link, read_array, read_header, write_array, write_header
from ml.types import NicheSet

FORMAT = "tissueboard set index 1"
MAX_COMPONENTS = 128
GROWTH = 2.0
DEAD = 0.25
DRIFT, DRIFT_FLOOR = 1.5, 0.02

Sets = Iterable[tuple[int, NicheSet]]


@dataclass(frozen=True)
class SetIndex:
    """Weighted sets by id. stamp: what the caller says it was built from. ids: (n,) int64, ascending. dim: of the vectors, 0 while empty.

    refitted: why the principal axes were fitted for this very folder ("" where they were taken over from the one before).
    """

    folder: Path
    stamp: str
    dim: int
    ids: NDArray[np.int64]
    refitted: str
    frame: Frame | None
    segments: tuple[Segment, ...]
    live: tuple[NDArray[np.bool_], ...]
    header: dict[str, Any]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(cls, folder: Path, sets: Sets, *, stamp: str, components: int = 64) -> SetIndex:
        """An index of (id, set) pairs in a folder of its own; they are read once, one at a time.

        components: principal axes of the first stage, 1 to 128; more cost time for every set and bound better. What an interrupted build
        left in the folder is written over. Raises TransportError: index_exists, components, and those of `write_segment`; OSError.
        """
        return _build(folder, sets, stamp, components, "new")

    @classmethod
    def open(cls, folder: Path) -> SetIndex:
        """An index as it was written; large files are checked by length alone (`verify` reads them whole).

        Raises TransportError: index_missing, index_version, index_broken.
        """
        header = read_header(folder)
        if header.get("format") != FORMAT:
            sentence = f"The set index was written as {str(header.get('format'))[:60]!r}; this version reads {FORMAT!r}."
            raise TransportError("index_version", sentence, "Build it again.", HEADER)
        try:
            return _opened(folder, header)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, TransportError):
                raise
            raise broken(folder / HEADER, "is damaged") from None

    def verify(self) -> None:
        """Reads every file whole. Raises TransportError (index_broken) where one is not what was written."""
        for name, facts in _files(self.header):
            check(self.folder / name, facts)

    def top_k(self, query: NicheSet, k: int, *, allowed: NDArray[np.int64] | None = None) -> TopK:
        """The k sets nearest to the query in 2-Wasserstein distance, equal distances by id; `Hit.candidate` is the id.

        allowed: ids that may be found (None: all); ids that are not in the index are passed over. n_candidates counts the sets that were
        searched. Raises TransportError: k, dimension, out_of_range, and those of `checked_set`.
        """
        if k < 1:
            raise TransportError("k", f"The number of neighbours is {k}; it must be at least 1.", "Ask for 1 or more.")
        if self.frame is None:
            return TopK((), 0, 0, 0)
        live = self.live
        if allowed is not None:
            wanted = np.asarray(allowed, np.int64)
            live = tuple(mask & np.isin(one.ids, wanted) for one, mask in zip(self.segments, live, strict=True))
        return Search(self.segments, self.frame, prepared(query, self.frame), k).run(live)

    def updated(self, folder_new: Path, *, added: Sets, removed: Collection[int], stamp: str) -> SetIndex:
        """This index less `removed` plus `added`, in another folder; the old one stays as it is. An id in both is replaced.

        Costs about as much as the added sets: they become a segment, which takes over earlier ones that are not larger (so that there are
        few, of growing sizes), and all other files are linked. Everything is written anew, with axes fitted again, where fewer than half
        of the sets were there at the fit, where more than a quarter of what is stored is removed, or where the axes leave out
        clearly more of the added sets' variance than at the fit. The axes never change an answer.

        Raises TransportError: unknown_id, duplicate_id (an added id that is there and not removed), index_exists, and as `build`.
        """
        gone = np.unique(np.fromiter(removed, np.int64, len(removed)))
        unknown = gone[~np.isin(gone, self.ids)]
        if len(unknown):
            sentence = f"{len(unknown)} ids are to be removed that are not in the index (the first is {unknown[0]})."
            raise TransportError("unknown_id", sentence, "Remove ids of the index only.", f"set {unknown[0]}")
        new = list(added)
        live = tuple(mask & ~np.isin(one.ids, gone) for one, mask in zip(self.segments, self.live, strict=True))
        kept = sum(int(mask.sum()) for mask in live)
        stored = sum(len(one) for one in self.segments)
        old = chain.from_iterable(one.sets(mask) for one, mask in zip(self.segments, live, strict=True))
        components = self.header["components"]
        if self.frame is None or kept + len(new) > GROWTH * self.frame.fitted_on:
            return _build(folder_new, chain(old, new), stamp, components, "few sets at the last fit")
        if stored - kept > DEAD * stored:
            return _build(folder_new, chain(old, new), stamp, components, "many sets removed")
        try:
            return self._with_segment(folder_new, live, new, stamp)
        except _Drifted:
            return _build(folder_new, chain(old, new), stamp, components, "the axes had drifted")

    def _with_segment(self, folder: Path, live: tuple[NDArray[np.bool_], ...], new: list[tuple[int, NicheSet]], stamp: str) -> SetIndex:
        """The update without a new fit: linked segments, and one of the new sets and those that they take over."""
        _claim(folder)
        keep = [i for i, mask in enumerate(live) if mask.any()]
        size, absorbed = len(new), []
        while new and keep and int(live[keep[-1]].sum()) <= size:
            absorbed.append(keep.pop())
            size += int(live[absorbed[-1]].sum())
        facts = []
        for place, i in enumerate(keep):
            part = self.header["segments"][i]
            for name in FILES:
                link(self.folder / f"{part['prefix']}{name}.npy", folder / f"{_prefix(place)}{name}.npy")
            facts.append({"prefix": _prefix(place), "files": part["files"]})
        taken = set(np.concatenate([np.zeros(0, np.int64), *(self.segments[i].ids[live[i]] for i in keep)]).tolist())
        masks = [live[i] for i in keep]
        if new:
            old = chain.from_iterable(self.segments[i].sets(live[i]) for i in reversed(absorbed))
            assert self.frame is not None
            written, _, left_out = write_segment(folder, _prefix(len(keep)), chain(old, new), self.frame, 0, taken)
            if left_out > DRIFT * self.frame.left_out + DRIFT_FLOOR:
                raise _Drifted
            facts.append({"prefix": _prefix(len(keep)), "files": written})
            masks.append(np.ones(size, bool))
        return _finished(folder, facts, masks, self.frame, stamp, self.header["components"], "")


class _Drifted(Exception):
    """The axes leave out clearly more of new sets than of those that they were fitted among."""


def _prefix(place: int) -> str:
    return f"{place:03d}-"


def _claim(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / HEADER).exists():
        sentence = f"The folder {folder.name} already holds a set index."
        raise TransportError("index_exists", sentence, "Name a new folder; a finished index never changes.", folder.name)
    for left in (*folder.glob("*.npy"), *folder.glob("*.new")):  # of an interrupted build, or of an update that found the axes drifted
        left.unlink()


def _build(folder: Path, sets: Sets, stamp: str, components: int, why: str) -> SetIndex:
    if not 1 <= components <= MAX_COMPONENTS:
        sentence = f"The number of principal axes is {components}; it must be from 1 to {MAX_COMPONENTS}."
        raise TransportError("components", sentence, "64 suits vectors of a few hundred dimensions.")
    _claim(folder)
    written, frame, _ = write_segment(folder, _prefix(0), sets, None, components, set())
    facts = [{"prefix": _prefix(0), "files": written}] if written else []
    masks = [np.ones(frame.fitted_on, bool)] if frame is not None else []
    return _finished(folder, facts, masks, frame, stamp, components, why)


def _finished(
    folder: Path,
    segments: list[dict[str, Any]],
    live: list[NDArray[np.bool_]],
    frame: Frame | None,
    stamp: str,
    components: int,
    why: str,
) -> SetIndex:
    """The small files and the header; then the index as it lies on the disk."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "stamp": stamp,
        "components": components,
        "refitted": why,
        "segments": segments,
        "frame": None,
    }
    if frame is not None:
        arrays = {"axes": frame.axes, "centre": frame.centre, "live": np.concatenate([np.zeros(0, bool), *live])}
        files = {name: write_array(folder / f"{name}.npy", values) for name, values in arrays.items()}
        header["frame"] = {"files": files, "fitted_on": frame.fitted_on, "left_out": frame.left_out}
    write_header(folder, header)
    return SetIndex.open(folder)


def _files(header: dict[str, Any]) -> Iterator[tuple[str, Facts]]:
    for part in header["segments"]:
        yield from ((f"{part['prefix']}{name}.npy", part["files"][name]) for name in FILES)
    if header["frame"] is not None:
        yield from ((f"{name}.npy", facts) for name, facts in header["frame"]["files"].items())


def _opened(folder: Path, header: dict[str, Any]) -> SetIndex:
    segments = tuple(read_segment(folder, part["prefix"], part["files"]) for part in header["segments"])
    frame, live, facts = None, np.zeros(0, bool), header["frame"]
    if facts is not None:
        types = {"axes": np.float64, "centre": np.float64, "live": np.bool_}
        kept = {name: np.array(read_array(folder / f"{name}.npy", facts["files"][name], dtype)) for name, dtype in types.items()}
        frame, live = Frame(kept["centre"], kept["axes"], int(facts["fitted_on"]), float(facts["left_out"])), kept["live"]
    ends = np.cumsum([len(one) for one in segments])
    if len(live) != (ends[-1] if len(ends) else 0) or any(
        len(frame.centre) != one.points.shape[1] for one in segments if frame is not None
    ):
        raise broken(folder / HEADER, "does not fit the files")
    masks = tuple(np.split(live, ends[:-1])) if len(ends) else ()
    ids = np.sort(np.concatenate([np.zeros(0, np.int64), *(one.ids[mask] for one, mask in zip(segments, masks, strict=True))]))
    dim = 0 if frame is None else len(frame.centre)
    return SetIndex(folder, str(header["stamp"]), dim, ids, str(header["refitted"]), frame, segments, masks, header)
