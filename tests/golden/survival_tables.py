"""The tables behind the survival reference values, read as the reference's `input` blocks say; nothing is extracted or copied."""

import io
import json
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

EDGE = (
    "all_censored",
    "all_events",
    "collinear",
    "competing_risks",
    "competing_risks_one_cause_absent",
    "concordance_ties",
    "delayed_entry_at_event_time",
    "delayed_entry_empties",
    "delayed_entry_gap_censored",
    "events_at_zero",
    "group_order_a",
    "group_order_b",
    "heavy_ties",
    "median_exact_half",
    "median_half_rounding",
    "missing_values",
    "months_to_days",
    "no_events_in_group",
    "one_subject_censored",
    "one_subject_event",
    "separation",
    "single_member_group",
    "three_groups_ordinal",
    "weights_fractional",
    "weights_whole",
)
REAL = (
    "gbsg2",
    "gse7390",
    "ncctg_lung",
    "tcga_blca_dss",
    "tcga_blca_os",
    "tcga_blca_pfi",
    "tcga_brca_dss",
    "tcga_brca_os",
    "tcga_brca_pfi",
    "tcga_luad_os",
)
DELAYED_EDGE = ("delayed_entry_at_event_time", "delayed_entry_empties", "delayed_entry_gap_censored")
ONE_SUBJECT = ("one_subject_censored", "one_subject_event")
UNGROUPED = (*DELAYED_EDGE, *ONE_SUBJECT, "concordance_ties", "median_half_rounding", "separation")
RUNS_OFF = ("no_events_in_group", "separation")  # README: only loglik, LR and score test can be compared


def _but(*left_out: str) -> tuple[str, ...]:
    return tuple(name for name in EDGE + REAL if name not in left_out)


# Which sets have which part of the reference; `test_the_lists_agree_with_the_files` holds them against the files.
WITH = {
    "km_overall": _but(*DELAYED_EDGE),
    "km": _but(*UNGROUPED),
    "cox": _but(*DELAYED_EDGE, *ONE_SUBJECT, "all_censored"),
    "delayed_entry": (*DELAYED_EDGE, *REAL),
    "weighted": ("weights_fractional", "weights_whole", "gbsg2"),
    "competing_risks": ("competing_risks", "competing_risks_one_cause_absent", "gbsg2", "ncctg_lung", "tcga_blca_os", "tcga_brca_os"),
}
COX_FINITE = tuple(name for name in WITH["cox"] if name not in RUNS_OFF)

# Parts of the reference without a counterpart here, as "level: key", and why.
NOT_COVERED = {
    "file: lasso": "there is no LASSO model here; the path is scikit-survival's Coxnet where a screen needs it",
    "weighted: km_default": "with fractional weights R turns to the infinitesimal jackknife; ours is Greenwood (compared: km_greenwood). "
    "With whole weights both are the same and compared",
    "cmprsk: gray_test": "no page compares incidences between groups yet",
    "cmprsk: fine_gray_cause1": "no page models a subdistribution hazard yet; cause-specific Cox is compared",
    "cmprsk: var": "the standard error shown is R survival's; cmprsk's differs by 0.1 to 1% (README, trap 10). Estimates are compared",
}


def number(value: object) -> float:
    """A number of the reference: null is R's NA, "NaN" and "Inf" are written as text."""
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


def numbers(values: object) -> np.ndarray:
    """An array of the reference; a single value counts as one."""
    return np.array([number(v) for v in (values if isinstance(values, list) else [values])])


@cache
def reference(golden: Path, name: str) -> dict:
    folder = golden / "survival" / ("edge" if name in EDGE else "")
    return json.loads((folder / f"{name}.json").read_text())


@cache
def table(golden: Path, data: Path | None, name: str) -> pd.DataFrame:
    """Rows of a set with time, event and its derived columns."""
    if name in EDGE:
        frame = pd.read_csv(golden / "survival" / "edge" / f"{name}.csv", float_precision="round_trip")
        return frame.dropna(subset=["time", "event"]).reset_index(drop=True)
    assert data is not None
    clinical = data / "clinical"
    if name == "gbsg2":
        frame = _read(clinical / "gbsg2" / "gbsg2.csv")
        frame["event"] = frame["cens"]
        for column, value in (("horTh", "yes"), ("menostat", "Post"), ("tgrade", "II"), ("tgrade", "III")):
            frame[f"{column}_{value}"] = (frame[column] == value).astype(float)
        return frame
    if name == "ncctg_lung":
        frame = _read(clinical / "ncctg_lung" / "lung.csv")
        frame["event"] = frame["status"]
        return frame
    if name == "gse7390":
        return _gse7390(clinical / "gse7390" / "breast_cancer_GSE7390-metastasis.arff")
    if name == "tcga_luad_os":
        with zipfile.ZipFile(clinical / "tcga_luad_mcat" / "tcga_luad_all_clean.csv.zip") as archive:
            member = archive.read(archive.namelist()[0])  # its name holds "..": read, never extract
        return _tcga(pd.read_csv(io.BytesIO(member), low_memory=False, float_precision="round_trip"), "")
    return _survpath(clinical, name)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


def _gse7390(path: Path) -> pd.DataFrame:
    header, _, body = path.read_text().partition("@data\n")
    names = [line.split()[1] for line in header.splitlines() if line.startswith("@attribute")]
    frame = pd.read_csv(io.StringIO(body), names=names, float_precision="round_trip")
    grades = {"well differentiated": 1.0, "intermediate": 2.0, "poorly differentiated": 3.0}
    frame["grade"] = frame["grade"].where(frame["grade"].isin(list(grades)))
    derived = {
        "time": frame["t.tdm"],
        "event": frame["e.tdm"].astype(int),
        "er_positive": (frame["er"] == "positive").astype(float),
        "grade_num": frame["grade"].map(grades),
    }
    return frame.assign(**derived)


def _tcga(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    frame = frame.drop_duplicates("case_id").reset_index(drop=True)
    older = (frame["age"] >= frame["age"].median()).astype(float).where(frame["age"].notna())
    return frame.assign(time=frame[f"survival_months{suffix}"], event=1 - frame[f"censorship{suffix}"], age_ge_median=older)


def _survpath(clinical: Path, name: str) -> pd.DataFrame:
    organ, endpoint = name.removeprefix("tcga_").split("_")
    folder = clinical / f"tcga_{organ}_survpath"
    frame = _tcga(_read(folder / f"tcga_{organ}.csv"), "" if endpoint == "os" else f"_{endpoint}")
    sheet = pd.read_csv(folder / f"tcga_{organ}_clinical.csv", keep_default_na=False)
    sheet = sheet[sheet["case_id"] != ""].drop_duplicates("case_id").set_index("case_id")
    stage = frame["case_id"].map(sheet["stage"])
    frame["stage"] = stage.where(stage.isin(["I", "II", "III", "IV"]))
    for level in ("II", "III", "IV"):
        frame[f"stage_{level}"] = (frame["stage"] == level).astype(float).where(frame["stage"].notna())
    frame["is_ILC"] = (frame["oncotree_code"] == "ILC").astype(float)
    return frame


def labels(column: pd.Series) -> np.ndarray:
    """Group labels as the reference writes them ("0" and not "0.0"), None where missing."""
    return np.array([None if pd.isna(v) else (f"{v:g}" if isinstance(v, int | float) else str(v)) for v in column], dtype=object)
