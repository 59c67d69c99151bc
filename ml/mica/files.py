"""The released layout of a project's files, read and written (spec section 1): bags, the clinical table, the folds.

    {base}/{PU}/features/pt_files/{slide}.pt      float tensor (n_tiles, 1024)
    {base}/{PU}/he2codex/fea_files/features.h5    one data set (40, 384) per slide
    {base}/{PU}/{P}_clin.csv                      case_id, slide_id, survival_months, censorship (1 = censored); a row a slide
    {base}/{PU}/splits/splits_{k}.csv             train, val, test (= val): slide files

P is the project's name, PU the same in capitals. Slides are named there with their extension; files and keys are named without the last
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.mica.codex_bag import CodexBag
from ml.mica.data import MicaBag
from ml.mica.errors import MicaError
from ml.slides.files import whole_file
from ml.survival.data import SurvivalDataError, build_outcomes
from ml.types import Outcomes

DAYS_PER_MONTH = 30.4375
COLUMNS = ("slide_id", "survival_months", "censorship")
CASE_CHARACTERS = 12  # of a TCGA barcode: its patient


@dataclass(frozen=True)
class ClinicalTable:
    """A row per slide: slides (stems), patients of these slides, and the outcomes with a row per patient, in days."""

    slides: tuple[str, ...]
    patients: tuple[str, ...]
    outcomes: Outcomes


@dataclass(frozen=True)
class ReleasedSplits:
    """train[k], val[k]: slides (stems). fold_of: patient -> the fold in which she is validated."""

    train: tuple[tuple[str, ...], ...]
    val: tuple[tuple[str, ...], ...]
    fold_of: dict[str, int]


def stem(slide: str) -> str:
    """The slide's id without its last extension, as files and keys are named."""
    return slide.strip().rsplit(".", 1)[0]


# -- bags ------------------------------------------------------------------------------------------------------------------------------


def write_tiles(folder: str | Path, slide: str, tiles: NDArray[Any]) -> Path:
    """pt_files/{slide}.pt: (n, d) float32."""
    import torch

    path = Path(folder) / f"{slide}.pt"
    with whole_file(path) as part:
        torch.save(torch.from_numpy(np.ascontiguousarray(tiles, np.float32)), part)
    return path


def read_tiles(path: str | Path) -> NDArray[np.float32]:
    """(n, d) float32 of a .pt file that holds one tensor; pickled code is never run. MicaError: file_absent, file_unreadable."""
    import torch

    path = Path(path)
    if not path.is_file():
        raise MicaError("file_absent", f"There is no {path.name}.", "Extract the features of this slide.", path.name)
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
        array: NDArray[np.float32] = tensor.float().numpy()
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        raise MicaError("file_unreadable", f"The file {path.name} does not hold one tensor.", "Write it again.", path.name) from error
    return array


def write_codex(path: str | Path, bags: Mapping[str, CodexBag]) -> None:
    """features.h5: slide -> tokens, float64 as released. The markers' names and the encoder are kept as attributes, which others ignore."""
    import h5py

    with whole_file(path) as part, h5py.File(part, "w") as file:
        for slide, bag in bags.items():
            kept = file.create_dataset(slide, data=np.asarray(bag.tokens, np.float64))
            kept.attrs["markers"], kept.attrs["encoder"] = list(bag.markers), bag.encoder


def read_codex(path: str | Path, markers: Sequence[str], encoder: str = "dinov2-s14-reg") -> dict[str, CodexBag]:
    """Slide -> CODEX bag of a features.h5. markers, encoder: of files that do not say (released ones), in the order of the rows.

    MicaError: file_absent, file_unreadable, panel_mismatch.
    """
    import h5py

    path, bags = Path(path), {}
    if not path.is_file():
        raise MicaError("file_absent", f"There is no {path.name}.", "Make the CODEX bags first.", path.name)
    try:
        with h5py.File(path, "r") as file:
            for slide, kept in file.items():
                names = tuple(str(m) for m in kept.attrs.get("markers", markers))
                bags[slide] = CodexBag(kept[...].astype(np.float32), names, str(kept.attrs.get("encoder", encoder)))
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise MicaError("file_unreadable", f"The file {path.name} is no table of bags.", "Write it again.", path.name) from error
    for slide, bag in bags.items():
        if bag.tokens.ndim != 2 or len(bag.tokens) != len(bag.markers):
            sentence = f"The bag of {slide} is {bag.tokens.shape} where {len(bag.markers)} markers were expected."
            raise MicaError("panel_mismatch", sentence, "Name the panel that the maps were made with.", slide)
    return bags


# -- tables ----------------------------------------------------------------------------------------------------------------------------


def read_clinical(path: str | Path, endpoint: str = "OS") -> ClinicalTable:
    """{P}_clin.csv. Without case_id the slide's first 12 characters name the patient. Months are 30.4375 days.

    MicaError: file_absent, column_absent, patient_contradicts (two outcomes of one patient), bad_outcomes.
    """
    table = _csv(path, COLUMNS)
    slides = tuple(stem(s) for s in table["slide_id"].astype(str))
    given = table["case_id"].astype(str) if "case_id" in table.columns else pd.Series([s[:CASE_CHARACTERS] for s in slides])
    patients = tuple(given.str.strip())
    rows = table.assign(patient=patients).groupby("patient", sort=False)[["survival_months", "censorship"]]
    several = rows.nunique(dropna=False).max(axis=1)
    if (several > 1).any():
        sentence = f"The slides of {several.index[several > 1][0]} have different outcomes."
        raise MicaError("patient_contradicts", sentence, "Give each patient one outcome.", str(path))
    first = rows.first()
    if not pd.api.types.is_numeric_dtype(first["survival_months"]):
        sentence = "The column survival_months holds something that is not a number."
        raise MicaError("bad_outcomes", sentence, "Give months since time zero.", "survival_months")
    if not first["censorship"].isin((0, 1)).all():
        raise MicaError("bad_outcomes", "The column censorship holds values other than 0 and 1.", "1 means censored.", "censorship")
    try:
        outcomes, findings = build_outcomes(
            first.index.tolist(),
            (first["survival_months"] * DAYS_PER_MONTH).tolist(),
            (first["censorship"] == 0).tolist(),
            endpoint,
        )
    except SurvivalDataError as error:
        raise MicaError("bad_outcomes", error.sentence, error.hint, Path(path).name) from error
    if findings:
        raise MicaError("bad_outcomes", findings[0].sentence, "Complete the table, or leave such patients out of it.", Path(path).name)
    return ClinicalTable(slides, patients, outcomes)


def write_clinical(path: str | Path, slides: Sequence[str], patients: Sequence[str], outcomes: Outcomes, extension: str = ".svs") -> None:
    """{P}_clin.csv, a row per slide."""
    row = {p: i for i, p in enumerate(outcomes.patients)}
    index = [row[p] for p in patients]
    table = pd.DataFrame(
        {
            "case_id": list(patients),
            "slide_id": [s + extension for s in slides],
            "survival_months": np.asarray(outcomes.time)[index] / DAYS_PER_MONTH,
            "censorship": (~np.asarray(outcomes.event, bool))[index].astype(int),
        }
    )
    with whole_file(path) as part:
        table.to_csv(part, index=False)


def read_splits(paths: Sequence[str | Path], patient_of: Mapping[str, str] | None = None) -> ReleasedSplits:
    """splits_0.csv, splits_1.csv, … in order. patient_of: slide (stem) -> patient; None: the first 12 characters of a TCGA file name.

    MicaError: file_absent, column_absent, patient_both_sides, patient_two_folds, slide_unknown.
    """
    trains, vals, fold_of = [], [], dict[str, int]()
    for k, path in enumerate(paths):
        table, name = _csv(path, ("train", "val")), Path(path).name
        train, val = (tuple(stem(s) for s in table[c].dropna().astype(str) if s.strip()) for c in ("train", "val"))
        sides = [{_patient(s, patient_of, name) for s in side} for side in (train, val)]
        both = sorted(sides[0] & sides[1])
        if both:
            sentence = f"{len(both)} patients are on both sides of {name}, e.g. {both[0]}."
            raise MicaError("patient_both_sides", sentence, "Split by patient, not by slide.", name)
        again = sorted(sides[1] & fold_of.keys())
        if again:
            sentence = f"{len(again)} patients are validated in two folds, e.g. {again[0]} in {name}."
            raise MicaError("patient_two_folds", sentence, "Hold each patient out once.", name)
        fold_of.update(dict.fromkeys(sides[1], k))
        trains.append(train)
        vals.append(val)
    return ReleasedSplits(tuple(trains), tuple(vals), fold_of)


def write_splits(
    folder: str | Path, slides: Sequence[str], patients: Sequence[str], fold_of: Mapping[str, int], extension: str = ".svs"
) -> None:
    """splits_{k}.csv as released: train holds all slides of its patients, val one slide per patient, test is val."""
    for k in range(max(fold_of.values()) + 1):
        train = [s + extension for s, p in zip(slides, patients) if fold_of[p] != k]
        first = {p: s for s, p in reversed(list(zip(slides, patients))) if fold_of[p] == k}
        val = [first[p] + extension for p in dict.fromkeys(patients) if p in first]
        with whole_file(Path(folder) / f"splits_{k}.csv") as part:
            pd.DataFrame({name: pd.Series(side, dtype=object) for name, side in (("train", train), ("val", val), ("test", val))}).to_csv(
                part
            )


def read_bags(base: str | Path, project: str, markers: Sequence[str], endpoint: str = "OS") -> tuple[list[MicaBag], Outcomes]:
    """Bags and outcomes of a project in the released layout; H&E bags are read when they are needed. Errors: those of the files."""
    folder = Path(base) / project.upper()
    clinical = read_clinical(folder / f"{project}_clin.csv", endpoint)
    codex = read_codex(folder / "he2codex" / "fea_files" / "features.h5", markers)
    bags = []
    for slide, patient in zip(clinical.slides, clinical.patients):
        if slide not in codex:
            raise MicaError("codex_absent", f"The slide {slide} has no CODEX bag.", "Make its map first.", slide)
        bag, path = codex[slide], folder / "features" / "pt_files" / f"{slide}.pt"
        bags.append(MicaBag(patient, slide, _Reader(path), bag.tokens, bag.markers, "", bag.encoder))
    return bags, clinical.outcomes


@dataclass(frozen=True)
class _Reader:
    path: Path

    def __call__(self) -> NDArray[np.float32]:
        return read_tiles(self.path)


def _patient(slide: str, patient_of: Mapping[str, str] | None, where: str) -> str:
    if patient_of is None:
        return slide[:CASE_CHARACTERS]
    if slide not in patient_of:
        raise MicaError("slide_unknown", f"The slide {slide} belongs to no known patient.", "Add it to the clinical table.", where)
    return patient_of[slide]


def _csv(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise MicaError("file_absent", f"There is no {path.name}.", "Name the folder of the project.", path.name)
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise MicaError("file_unreadable", f"The file {path.name} is no table.", "Write it as comma-separated text.", path.name) from error
    table.columns = [str(c).strip() for c in table.columns]
    absent = [c for c in columns if c not in table.columns]
    if absent:
        raise MicaError("column_absent", f"The table {path.name} has no column {absent[0]}.", f"It needs {', '.join(columns)}.", path.name)
    return table
