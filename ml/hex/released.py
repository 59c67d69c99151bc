"""Training data as HEX's authors lay it out: split files, and a folder of tile pictures beside label tables (spec 1.2, 1.3).

<root>/channel_registered/{slide}.csv, <root>/he_patches/{slide}/{slide}_{index}.png, splits_{k}.csv with patient_train, train, patient_val,
val: the patient and the id of each slide on either side; the shorter columns are padded with blanks, so that ids often read as floats.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.hex.errors import HexDataError
from ml.hex.label_tables import LabelTable, read_label_table

TABLES, PICTURES = "channel_registered", "he_patches"
COLUMNS = ("patient_train", "train", "patient_val", "val")
AS_FLOAT = re.compile(r"(\d+)\.0+")
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HexSplit:
    """One fold. train, val: (patient, slide) of each slide, in the order of the file."""

    train: Pairs
    val: Pairs

    @property
    def patient_of(self) -> dict[str, str]:
        """Patient by slide."""
        return {slide: patient for patient, slide in (*self.train, *self.val)}


class ReleasedTiles(NamedTuple):
    """n tiles in memory, as `ml.hex.data.dataset` and `ml.hex.train.fit` take them.

    images: (n, S, S, 3) uint8 RGB. labels: (n, P) float32, unscaled. patients, slides: (n,) str. markers: P names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    patients: NDArray[np.str_]
    slides: NDArray[np.str_]
    markers: tuple[str, ...]


def read_split(path: str | Path) -> HexSplit:
    """One `splits_k.csv`. Without the columns of patients every slide is a patient of its own, as in the released code.

    "12.0" is read as 12 where all ids of a column look like that. Errors: HexDataError split_unreadable, split_columns, split_uneven,
    split_twice.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        sentence = f"The split file {path.name} cannot be read ({type(reason).__name__})."
        raise HexDataError("split_unreadable", sentence, "Save it as CSV in UTF-8.", path.name) from reason
    if not rows or not {"train", "val"} <= set(rows[0]):
        sentence = f"The split file {path.name} needs the columns train and val, and rows below them."
        raise HexDataError("split_columns", sentence, "Write patient_train, train, patient_val, val.", f"{path.name}, row 1")
    columns = {name: _ids([row.get(name) or "" for row in rows]) for name in COLUMNS}
    split = HexSplit(*(_pairs(path.name, columns[f"patient_{side}"], columns[side], side) for side in ("train", "val")))
    slides = [slide for _, slide in (*split.train, *split.val)]
    if len(set(slides)) < len(slides):
        twice = next(slide for slide in slides if slides.count(slide) > 1)
        raise HexDataError("split_twice", f"The slide {twice} stands twice in {path.name}.", "Name each slide once.", path.name)
    return split


def write_split(path: str | Path, split: HexSplit) -> None:
    """Writes a fold as released: an unnamed running number, then the four columns, padded with blanks."""
    sides = [list(column) for side in (split.train, split.val) for column in (zip(*side) if side else ((), ()))]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["", *COLUMNS])
        for number in range(max(len(split.train), len(split.val))):
            out.writerow([number, *(column[number] if number < len(column) else "" for column in sides)])


def check_splits(splits: Sequence[HexSplit], slides: Iterable[str] | None = None) -> None:
    """The rules of a cross-validation (the released `check_splits.py`): in every fold no patient is on both sides; over several folds the
    validation sets share no patient and together hold all slides, and each training set is all but its own validation set.

    slides: all there are, where the labels say so; otherwise those of the folds. Errors: HexDataError split_empty, patient_on_both_sides,
    patient_in_two_folds, slide_never_validated, slide_unknown, split_incomplete; `where` names the fold, counted from 0.
    """
    known = set(slides) if slides is not None else {slide for split in splits for slide in split.patient_of}
    for k, split in enumerate(splits):
        if not split.train or not split.val:
            raise _broken("split_empty", f"Fold {k} has no slide to {'train' if not split.train else 'validate'} on.", k)
        if both := sorted({p for p, _ in split.train} & {p for p, _ in split.val}):
            raise _broken("patient_on_both_sides", f"{_named('Patient', both)} is on both sides of fold {k}.", k)
        if unknown := sorted(set(split.patient_of) - known):
            raise _broken("slide_unknown", f"{_named('Slide', unknown)} of fold {k} has no labels.", k)
    if len(splits) < 2:
        return
    fold_of: dict[str, int] = {}
    for k, split in enumerate(splits):
        for patient in dict.fromkeys(p for p, _ in split.val):
            if fold_of.setdefault(patient, k) != k:
                raise _broken("patient_in_two_folds", f"Patient {patient} is validated in the folds {fold_of[patient]} and {k}.", k)
    if never := sorted(known - {slide for split in splits for _, slide in split.val}):
        raise _broken("slide_never_validated", f"{_named('Slide', never)} is in no validation set.", 0)
    for k, split in enumerate(splits):
        if left := sorted(known - set(split.patient_of)):
            raise _broken("split_incomplete", f"{_named('Slide', left)} is neither trained on nor validated in fold {k}.", k)


def read_released_folder(
    root: str | Path, splits: HexSplit | str | Path | None = None, markers: Sequence[str] | None = None
) -> ReleasedTiles:
    """All tiles of a released folder, tables in the order of their names, with the picture of each row.

    splits: a split (or its file) that says whose each slide is; without one each slide is a patient of its own. markers: as
    `read_label_table` takes them. Slides that the split does not name are refused: nobody knows whose they are.
    Errors: HexDataError folder_empty, slide_mismatch, slide_without_patient, picture_missing, picture_unreadable, pictures_differ,
    panels_differ, and those of `read_label_table` and `read_split`.
    """
    root = Path(root)
    files = sorted((root / TABLES).glob("*.csv"))
    if not files:
        sentence = f"There is no label table in {root.name}/{TABLES}."
        raise HexDataError("folder_empty", sentence, f"Name the folder that holds {TABLES} and {PICTURES}.", root.name)
    split = read_split(splits) if isinstance(splits, str | Path) else splits
    tables = [_table(path, markers) for path in files]
    if len({table.markers for table in tables}) > 1:
        other = next(i for i, table in enumerate(tables) if table.markers != tables[0].markers)
        sentence = f"{files[other].name} and {files[0].name} have different markers."
        raise HexDataError("panels_differ", sentence, "Train on tables of one panel.", files[other].name)
    slides = np.concatenate([table.slide for table in tables])
    if split is not None and (lost := sorted(set(slides.tolist()) - set(split.patient_of))):
        raise HexDataError("slide_without_patient", f"The split does not name {_named('slide', lost)}.", "Add it to one side.", "splits")
    patients = slides if split is None else np.array([split.patient_of[slide] for slide in slides.tolist()])
    images = _pictures(root, tables)
    return ReleasedTiles(images, np.concatenate([t.values for t in tables]).astype(np.float32), patients, slides, tables[0].markers)


def _table(path: Path, markers: Sequence[str] | None) -> LabelTable:
    table = read_label_table(path, markers)
    if table.slides != [path.stem]:
        sentence = f"The table {path.name} is of the slide {path.stem} by its name, and of {', '.join(table.slides)[:80]} by its rows."
        raise HexDataError("slide_mismatch", sentence, "Write one table per slide, named by it.", path.name)
    return table


def _pictures(root: Path, tables: Sequence[LabelTable]) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 RGB, filled in the order of the rows."""
    images: NDArray[np.uint8] | None = None
    row = 0
    for table in tables:
        for slide, index in zip(table.slide.tolist(), table.index.tolist()):
            picture = _picture(root, slide, index)
            if images is None:
                images = np.empty((sum(map(len, tables)), *picture.shape), np.uint8)
            if picture.shape != images.shape[1:] or picture.shape[0] != picture.shape[1]:
                size = f"{picture.shape[1]} x {picture.shape[0]} px"
                sentence = f"The picture {slide}_{index}.png has {size}; squares of one size are expected."
                raise HexDataError("pictures_differ", sentence, "Cut all tiles alike.", f"{PICTURES}/{slide}/{slide}_{index}.png")
            images[row] = picture
            row += 1
    assert images is not None
    return images


def _picture(root: Path, slide: str, index: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    where = f"{PICTURES}/{slide}/{slide}_{index}.png"
    try:
        with Image.open(root / where) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)
    except FileNotFoundError as reason:
        sentence = f"There is no picture of tile {index} of the slide {slide}."
        raise HexDataError("picture_missing", sentence, "Cut the tiles again, or leave the row out of the table.", where) from reason
    except (OSError, UnidentifiedImageError, ValueError) as reason:
        sentence = f"The picture of tile {index} of the slide {slide} cannot be read ({type(reason).__name__})."
        raise HexDataError("picture_unreadable", sentence, "Cut the tile again.", where) from reason


def _ids(column: list[str]) -> list[str]:
    """Ids without blanks at the end; whole numbers that were written as floats lose their ".0"."""
    ids = [cell.strip() for cell in column]
    filled = [AS_FLOAT.fullmatch(one) for one in ids if one]
    return [one[: one.index(".")] if one else one for one in ids] if filled and all(filled) else ids


def _pairs(file: str, patients: list[str], slides: list[str], side: str) -> Pairs:
    if not any(patients):
        patients = slides
    for row, (patient, slide) in enumerate(zip(patients, slides), 2):
        if bool(patient) != bool(slide):
            sentence = f"Row {row} of {file} names a {'patient' if patient else 'slide'} without a {'slide' if patient else 'patient'}."
            raise HexDataError("split_uneven", sentence, "Fill or clear both cells.", f"{file}, row {row}, column {side}")
    return tuple((patient, slide) for patient, slide in zip(patients, slides) if slide)


def _named(what: str, ids: Sequence[str]) -> str:
    return f"{what} {ids[0]}" + (f" (and {len(ids) - 1} more)" if len(ids) > 1 else "")


def _broken(code: str, sentence: str, fold: int) -> HexDataError:
    return HexDataError(code, sentence, "Make the folds again, by patient.", f"fold {fold}")
