"""Feature bags that other tools made: where they lie, what is in them, whether they fit a slide. Nothing is encoded again.

TRIDENT:  <job>/<mag>x_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5 (or .pt), .../patches/<slide>_patches.h5
CLAM:     <features>/h5_files/<slide>.h5, <features>/pt_files/<slide>.pt, and the patching's <results>/patches/<slide>.h5
Facts about the layouts: mahmoodlab/TRIDENT (arXiv:2502.06750) and mahmoodlab/CLAM (Nat Biomed Eng 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from ml.slides.bag_writer import bag_writer
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.types import TileGrid

TRIDENT, CLAM = "trident", "clam"
MPP_AT_1X = 10.0  # the field's convention: 40x is 0.25 um per px
MPP_TOLERANCE = 0.3  # nominal magnifications are that far from the truth: 0.2 to 0.29 um per px are all called 40x
AT_A_TIME = 4096  # rows


@dataclass(frozen=True)
class ForeignBag:
    """The files of one slide. features: .h5 or .pt. coords: the .h5 that holds its corners; None where there is none."""

    name: str
    layout: str
    encoder: str
    features: Path
    coords: Path | None


@dataclass(frozen=True)
class BagContent:
    """What is in it. xy: (n, 2) int64 px0. tile_px0: side of a tile; None where no file says it. magnification: of px0, as stated, or None.

    slide_size: (width, height) px0 as stated, or None.
    """

    n: int
    dim: int
    xy: NDArray[np.int64]
    tile_px0: float | None
    magnification: float | None
    slide_size: tuple[int, int] | None
    finite: bool


def find_bags(folder: str | Path, encoder: str = "", coords: str | Path | None = None) -> list[ForeignBag]:
    """The bags of all slides below a folder, by name.

    encoder: which `features_<encoder>` of a TRIDENT folder, where there are several; CLAM does not say which it used. coords: a folder of
    CLAM's patch files, where it is not beside the features. Error: SlideError FILE_MISSING (nothing there, or several sets).
    """
    folder = Path(folder)
    sets = _sets(folder, encoder)
    if not sets:
        raise SlideError(
            FindingCode.FILE_MISSING,
            f"There are no features{f' of {encoder}' if encoder else ''} in the folder {folder.name}.",
            "Name the folder that TRIDENT or CLAM wrote: it holds features_<encoder>, or h5_files or pt_files.",
        )
    if len(sets) > 1:
        names = ", ".join(str(place.relative_to(folder)) for place, _ in sets)
        raise SlideError(
            FindingCode.FILE_MISSING, f"The folder {folder.name} holds several sets of features: {names}.", "Name one of them."
        )
    place, layout = sets[0]
    beside = [Path(coords)] if coords is not None else [place / "patches", place.parent / "patches", place.parent.parent / "patches"]
    return list(_members(place, layout, encoder, beside))


def _sets(folder: Path, encoder: str) -> list[tuple[Path, str]]:
    """(folder of features, layout) of each set below a folder."""
    if (folder / "h5_files").is_dir() or (folder / "pt_files").is_dir():
        return [(folder, CLAM)]
    if folder.name in ("h5_files", "pt_files"):
        return [(folder.parent, CLAM)]
    wanted = f"features_{encoder}" if encoder else "features_*"
    if folder.name.startswith("features_") and (not encoder or folder.name == wanted):
        return [(folder, TRIDENT)]
    found = [(path, TRIDENT) for path in sorted(folder.rglob(wanted)) if path.is_dir()]
    found += [(path.parent, CLAM) for path in sorted(folder.rglob("h5_files")) if path.is_dir()]
    if not found and any(folder.glob("*.h5")):
        found = [(folder, TRIDENT)]
    return found


def _members(place: Path, layout: str, encoder: str, beside: list[Path]) -> Iterator[ForeignBag]:
    folders = [place / "h5_files", place / "pt_files"] if layout == CLAM else [place]
    known = encoder or (place.name.removeprefix("features_") if place.name.startswith("features_") else "")
    files: dict[str, Path] = {}
    for folder in folders:  # the .h5 of a slide wins over its .pt: it holds the corners too
        for path in sorted([*folder.glob("*.h5"), *folder.glob("*.pt")]):
            files.setdefault(path.stem, path)
    for name, path in sorted(files.items()):
        patches = [candidate for f in beside for candidate in (f / f"{name}_patches.h5", f / f"{name}.h5") if candidate.is_file()]
        own = [path] if path.suffix == ".h5" else []
        yield ForeignBag(name, layout, known, path, next(iter([*patches, *own]), None))


def read_content(bag: ForeignBag) -> BagContent:
    """Everything about a bag but its vectors, which are looked through once. SlideError BAG_UNREADABLE, BAG_INVALID, COORDS_MISSING."""
    if bag.coords is None:
        raise SlideError(
            FindingCode.COORDS_MISSING,
            f"The file {bag.features.name} holds vectors without the places of their tiles.",
            "Name the folder with the patch files of the same run, or bring the .h5 files.",
        )
    finite, n, dim = True, 0, 0
    for piece in vectors(bag):
        finite, n, dim = finite and bool(np.isfinite(piece).all()), n + len(piece), piece.shape[1]
    own = bag.features if bag.features.suffix == ".h5" else bag.coords
    facts: dict[str, Any] = {}
    xy = None
    for path in dict.fromkeys((bag.coords, own)):  # what the features' own file says wins
        places, stated = _places(path)
        xy = xy if places is None else places
        facts |= stated
    if xy is None:
        raise SlideError(FindingCode.COORDS_MISSING, f"{bag.coords.name} holds no coords.", "Bring the patch files of the same run.")
    if len(xy) != n:
        raise SlideError(
            FindingCode.BAG_INVALID,
            f"There are {n} vectors in {bag.features.name} and {len(xy)} places in {bag.coords.name}.",
            "They are of different runs, or one of them was broken off: make them again.",
        )
    return BagContent(n, dim, xy, _side(facts), _number(facts.get("level0_magnification")), _size(facts), finite)


def read_places(path: str | Path) -> tuple[NDArray[np.int64], float | None]:
    """(corners (n, 2) int64 px0, side of a tile in px0 or None where the file does not say it) of a coordinate file of CLAM or TRIDENT.

    Errors: SlideError BAG_UNREADABLE, COORDS_MISSING.
    """
    path = Path(path)
    xy, facts = _places(path)
    if xy is None:
        raise SlideError(FindingCode.COORDS_MISSING, f"{path.name} holds no coords.", "Bring the patch file of the slide.")
    side = _side(facts)
    return xy, _number(facts.get("patch_size")) if side is None and facts.get("patch_level") == 0 else side


def vectors(bag: ForeignBag) -> Iterator[NDArray[np.float32]]:
    """The vectors in order, some thousand at a time (a .pt is read whole). SlideError BAG_UNREADABLE, BAG_INVALID."""
    with _readable(bag.features):
        if bag.features.suffix == ".pt":
            yield _two_axes(bag, _tensor(bag.features))
            return
        with h5py.File(bag.features, "r") as file:
            stored = cast(h5py.Dataset, file["features"])
            if stored.ndim == 3 and stored.shape[0] == 1:
                for start in range(0, stored.shape[1], AT_A_TIME):
                    yield np.asarray(stored[0, start : start + AT_A_TIME], np.float32)
                return
            if stored.ndim != 2:
                raise _not_two(bag, stored.shape)
            for start in range(0, max(stored.shape[0], 1), AT_A_TIME):
                yield np.asarray(stored[start : start + AT_A_TIME], np.float32)


def check_fit(bag: ForeignBag, content: BagContent, mpp: float, size: tuple[int, int], dim: int | None = None) -> list[Finding]:
    """What speaks against the bag being of a slide of `mpp` um per px0 and `size` px0. dim: values per tile that are expected."""
    found: list[Finding] = []

    def say(code: FindingCode, sentence: str, hint: str) -> None:
        found.append(Finding(code, Severity.ERROR, bag.features.name, "", sentence, hint))

    if not content.finite:
        say(
            FindingCode.FEATURES_NOT_FINITE,
            "Some of its vectors hold NaN or infinity.",
            "Make the features of this slide again, in bf16 or fp32.",
        )
    if dim is not None and content.dim != dim:
        say(
            FindingCode.FEATURES_WRONG_DIM,
            f"A vector has {content.dim} values; {dim} are expected of this encoder.",
            "Check which encoder made the features.",
        )
    if content.tile_px0 is None:
        say(FindingCode.TILE_SIZE_MISSING, "No file says how large its tiles are.", "Bring the patch files of the same run beside it.")
    outside = int(((content.xy < 0) | (content.xy >= size)).any(axis=1).sum())
    if outside:
        say(
            FindingCode.COORDS_OUTSIDE,
            f"{outside} of {content.n} tiles lie outside the slide of {size[0]} x {size[1]} px.",
            "It is the bag of another slide: check the names or the mapping.",
        )
    elif content.slide_size is not None and content.slide_size != size:
        stated = f"{content.slide_size[0]} x {content.slide_size[1]}"
        say(
            FindingCode.COORDS_OUTSIDE,
            f"It was made of a picture of {stated} px; the slide has {size[0]} x {size[1]} px.",
            "It is the bag of another slide, or of another scan: check the names or the mapping.",
        )
    stated_mpp = MPP_AT_1X / content.magnification if content.magnification else None
    if stated_mpp is not None and abs(np.log(stated_mpp / mpp)) > np.log1p(MPP_TOLERANCE):
        say(
            FindingCode.MPP_CONFLICT,
            f"It was made at {content.magnification:g}x, about {stated_mpp:.3g} um per px; the slide has {mpp:.3g} um per px.",
            "Correct the um per px of the slide if it is wrong; otherwise make the features again.",
        )
    return found


def convert(
    bag: ForeignBag, content: BagContent, target: str | Path, name: str, mpp: float, size: tuple[int, int], facts: dict[str, Any]
) -> None:
    """Writes the bag as ours, vectors unchanged (float32), in bounded memory. name: of the slide, no identifiers. Errors as `vectors`."""
    if content.tile_px0 is None:
        raise SlideError(
            FindingCode.TILE_SIZE_MISSING, f"No file says how large the tiles of {bag.features.name} are.", "Bring its patch file."
        )
    grid = TileGrid(content.xy, content.tile_px0, mpp, size)
    with bag_writer(target, grid, content.dim, bag.encoder, {"name": name}, (), facts) as writer:
        for piece in vectors(bag):
            writer.append(piece)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, EOFError) as error:
        raise SlideError(
            FindingCode.BAG_UNREADABLE,
            f"The file {path.name} is truncated or not a feature file ({type(error).__name__}).",
            "Copy it again, or make the features of this slide again.",
        ) from error


def _places(path: Path) -> tuple[NDArray[np.int64] | None, dict[str, Any]]:
    """Corners and attributes of `coords`; None where the file holds none."""
    with _readable(path), h5py.File(path, "r") as file:
        if "coords" not in file:
            return None, {}
        stored = cast(h5py.Dataset, file["coords"])
        return np.asarray(stored, np.int64).reshape(-1, 2), {name: _plain(value) for name, value in stored.attrs.items()}


def _tensor(path: Path) -> NDArray[np.float32]:
    import pickle

    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("not a tensor") from error
    if not isinstance(tensor, torch.Tensor):
        raise ValueError("not a tensor")
    return np.asarray(tensor.float().numpy(), np.float32)


def _two_axes(bag: ForeignBag, array: NDArray[np.float32]) -> NDArray[np.float32]:
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim != 2:
        raise _not_two(bag, array.shape)
    return array


def _not_two(bag: ForeignBag, shape: tuple[int, ...]) -> SlideError:
    return SlideError(
        FindingCode.BAG_INVALID,
        f"The features in {bag.features.name} have the shape {shape}; one vector per tile is expected.",
        "Vectors of whole slides cannot be imported as features of tiles.",
    )


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _number(value: Any) -> float | None:
    try:
        number = float(np.asarray(value, np.float64).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) and number > 0 else None


def _side(facts: dict[str, Any]) -> float | None:
    """Side of a tile in px0: as TRIDENT states it, or CLAM's px at its level times the level's downsample."""
    stated = _number(facts.get("tile_px0", facts.get("patch_size_level0")))
    if stated is not None or "patch_level" not in facts:
        return stated
    parts = [_number(facts.get("patch_size")), _number(facts.get("downsample")), _number(facts.get("custom_downsample", 1))]
    return float(np.prod(parts)) if None not in parts else None  # type: ignore[arg-type]


def _size(facts: dict[str, Any]) -> tuple[int, int] | None:
    width, height = _number(facts.get("level0_width")), _number(facts.get("level0_height"))
    if (width is None or height is None) and facts.get("patch_level") == 0 and np.size(facts.get("level_dim", ())) == 2:
        width, height = map(float, np.asarray(facts["level_dim"]).reshape(-1))
    return None if width is None or height is None else (round(width), round(height))
