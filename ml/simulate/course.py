"""The course of a simulated patient: treatments with days and lines, progression, and what the laboratory measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulate.clinical import Clinical
from ml.simulate.outcome import Outcome


@dataclass(frozen=True)
class Treatment:
    """kind: surgery, chemotherapy, immunotherapy, targeted or radiotherapy. day, end_day: days from surgery (end_day None =
    one day or still running at the end of follow-up). line: 0 surgery and adjuvant, 1 first line after progression, ..."""

    kind: str
    name: str
    day: float
    end_day: float | None
    line: int


@dataclass(frozen=True)
class Measurement:
    """A marker or mutation asked for. state: "done", "failed" or "pending"; value is None unless done.

    kind: "biomarker" (value a number in `unit`) or "mutation" (value "detected: ..." or "not detected").
    day: when sampled, days from surgery. method: assay.
    """

    name: str
    kind: str
    method: str
    state: str
    value: float | str | None
    unit: str
    day: float


CHEMO = {
    "adenocarcinoma": ("cisplatin + pemetrexed", "carboplatin + pemetrexed"),
    "squamous cell carcinoma": ("cisplatin + gemcitabine", "carboplatin + paclitaxel"),
}
IMMUNO = ("pembrolizumab", "atezolizumab", "nivolumab")
TARGETED = {"EGFR": "osimertinib", "ALK": "alectinib", "KRAS": "sotorasib"}
VARIANTS = {
    "EGFR": ("exon 19 deletion", "L858R"),
    "KRAS": ("G12C", "G12D", "G12V"),
    "ALK": ("EML4-ALK fusion",),
    "TP53": ("R273H", "R175H", "Y220C", "frameshift"),
}


def draw_measurements(rng: np.random.Generator, clinical: Clinical, truth: dict[str, float]) -> list[Measurement]:
    """PD-L1 and Ki-67 by IHC near the tissue's truth, and a small gene panel; some tests failed or still pending."""
    out = []
    for name, key, method in (("PD-L1 TPS", "pd_l1_positive", "IHC 22C3"), ("Ki-67", "ki67_positive", "IHC MIB-1")):
        read = float(np.clip(truth[key] * np.exp(rng.normal(0, 0.18)) + rng.normal(0, 0.02), 0, 1)) * 100
        out.append(_measured(rng, name, "biomarker", method, float(round(read)), "% of tumour cells"))
    adeno, never = clinical.histology == "adenocarcinoma", clinical.pack_years == 0
    driver = rng.random()
    p_egfr = (0.45 if never else 0.12) if adeno else 0.02
    p_kras = (0.1 if never else 0.32) if adeno else 0.05
    p_alk = (0.1 if never else 0.03) if adeno else 0.0
    found = {
        "EGFR": driver < p_egfr,
        "KRAS": p_egfr <= driver < p_egfr + p_kras,
        "ALK": p_egfr + p_kras <= driver < p_egfr + p_kras + p_alk,
        "TP53": rng.random() < (0.45 if adeno else 0.8),
    }
    for gene, present in found.items():
        variant = VARIANTS[gene][int(rng.integers(len(VARIANTS[gene])))]
        method = "IHC D5F3" if gene == "ALK" else "NGS panel"
        value = f"detected: {variant}" if present else "not detected"
        out.append(_measured(rng, gene, "mutation", method, value, ""))
    return out


def _measured(rng: np.random.Generator, name: str, kind: str, method: str, value: float | str, unit: str) -> Measurement:
    state = ("done", "failed", "pending")[int(rng.choice(3, p=[0.88, 0.06, 0.06]))]
    return Measurement(name, kind, method, state, value if state == "done" else None, unit, float(rng.integers(0, 12)))


def draw_treatments(rng: np.random.Generator, clinical: Clinical, outcome: Outcome, measured: list[Measurement]) -> list[Treatment]:
    """Surgery on day 0, adjuvant treatment by stage, a line after progression; nothing starts after the end of follow-up."""
    end = outcome.time_days
    plan = [Treatment("surgery", clinical.procedure, 0.0, 0.0, 0)]
    by_name = {m.name: m.value for m in measured}
    targets = [g for g in TARGETED if str(by_name.get(g) or "").startswith("detected") and (g != "KRAS" or "G12C" in str(by_name[g]))]
    if clinical.stage != "I" and clinical.ecog <= 2 and rng.random() < 0.8:
        start = float(rng.integers(28, 60))
        plan.append(Treatment("chemotherapy", _pick(rng, CHEMO[clinical.histology]), start, start + 63 + float(rng.integers(0, 22)), 0))
    pd_l1 = by_name.get("PD-L1 TPS")
    if clinical.stage in ("III", "IV") and isinstance(pd_l1, float) and pd_l1 >= 1 and not targets:
        start = float(rng.integers(110, 150))
        plan.append(Treatment("immunotherapy", _pick(rng, IMMUNO), start, start + float(rng.integers(90, 360)), 0))
    if outcome.progression_days is not None:
        start = outcome.progression_days + float(rng.integers(10, 40))
        if targets:
            plan.append(Treatment("targeted", TARGETED[targets[0]], start, None, 1))
        elif any(t.kind == "immunotherapy" for t in plan):
            plan.append(Treatment("chemotherapy", "docetaxel", start, start + 84, 1))
        else:
            plan.append(Treatment("immunotherapy", _pick(rng, IMMUNO), start, None, 1))
    kept = [t for t in plan if t.day < end]
    return [Treatment(t.kind, t.name, t.day, t.end_day if t.end_day is None or t.end_day <= end else None, t.line) for t in kept]


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]
