"""Clinical facts of a simulated lung-cancer patient that are known on the day of sampling. Independent of the tissue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

HISTOLOGIES = ("adenocarcinoma", "squamous cell carcinoma")
STAGES = ("I", "II", "III", "IV")
SPECIMENS = (
    ("right upper lobe", "lobectomy"),
    ("left upper lobe", "lobectomy"),
    ("right lower lobe", "lobectomy"),
    ("left lower lobe", "wedge resection"),
    ("right middle lobe", "wedge resection"),
    ("left lung", "pneumonectomy"),
)


@dataclass(frozen=True)
class Clinical:
    """age: years at sampling. sex: "female" or "male". stage: I..IV. ecog: performance status 0..3.
    pack_years: cigarettes smoked. question: what the tumour board is asked."""

    age: float
    sex: str
    stage: str
    ecog: int
    histology: str
    pack_years: int
    specimen_site: str
    procedure: str
    question: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, JSON-ready."""
        return asdict(self)


def draw_clinical(rng: np.random.Generator) -> Clinical:
    """One patient's facts: non-small-cell lung cancer after resection."""
    stage = STAGES[int(rng.choice(4, p=[0.32, 0.30, 0.28, 0.10]))]
    site, procedure = SPECIMENS[int(rng.integers(len(SPECIMENS)))]
    histology = HISTOLOGIES[int(rng.random() < 0.35)]
    smoker = rng.random() < (0.78 if histology == "adenocarcinoma" else 0.95)
    return Clinical(
        age=round(float(np.clip(rng.normal(66, 8.5), 38, 88)), 1),
        sex="female" if rng.random() < 0.45 else "male",
        stage=stage,
        ecog=int(rng.choice(4, p=[0.38, 0.42, 0.16, 0.04])),
        histology=histology,
        pack_years=int(rng.gamma(4, 9)) if smoker else 0,
        specimen_site=site,
        procedure=procedure,
        question=_question(rng, stage),
    )


def _question(rng: np.random.Generator, stage: str) -> str:
    asked = {
        "I": ("Is adjuvant treatment of benefit, or is follow-up enough?", "Which interval of follow-up is advised?"),
        "II": ("Adjuvant chemotherapy, immunotherapy or both?", "Is adjuvant immunotherapy advised with this PD-L1 value?"),
        "III": ("Adjuvant chemo-immunotherapy, and in which order with radiotherapy?", "Is a targeted drug advised before chemotherapy?"),
        "IV": ("Which first-line systemic treatment?", "Immunotherapy alone or with chemotherapy?"),
    }[stage]
    return asked[int(rng.integers(len(asked)))]
