"""What can be wrong with measured labels beside the table itself: whose they are, where their tiles lie, which panel, which unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml.slides.findings import Finding, Severity
from tissueboard.slides.models import Slide

from .errors import AssayCode, LabelsRefused
from .models import Assay, Panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.hex.errors import HexDataError
    from ml.hex.label_tables import LabelTable

LEAST_TILES = 10
PLAUSIBLE_UM = (2.0, 1000.0)  # HEX's finest window is 3.5 um (14 px at 40x); no published tile is as wide as a millimetre
SPACING_TOLERANCE = 0.1
MAX_PANEL_NAME = 80


def finding(code: str, sentence: str, hint: str, where: str = "", severity: str = Severity.ERROR) -> Finding:
    return Finding(str(code), Severity(severity), "", where, sentence, hint)


def refusal_of(error: HexDataError) -> LabelsRefused:
    """What is wrong with a table or an image of HEX, as a refusal."""
    return LabelsRefused([finding(error.code.upper(), error.sentence, error.hint, error.where)])


def choose_rows(slide: Slide, table: LabelTable, called: str, findings: list[Finding]) -> tuple[LabelTable | None, NDArray[Any]]:
    """The rows of a table that are of this slide, with their row numbers in the file (the header is row 1); None where that is unclear.

    called: what the table calls the slide. Otherwise the slide's own name counts, then the only one in the table, unless that is the name
    of somebody else's slide: one table cannot be of two patients.
    """
    import numpy as np

    ids, patient = table.slides, slide.sample.patient
    mine = [one for one in ((called,) if called else (slide.name, patient.code)) if one in ids]
    if called and not mine:
        sentence = f"The table has no rows of a slide {called}; it has {_some(ids)}."
        findings.append(finding(AssayCode.SLIDE_UNKNOWN, sentence, "Give the id as it stands in the table's column slide.", "column slide"))
    elif not mine and len(ids) > 1:
        sentence = f"The table holds {len(ids)} slides ({_some(ids)}), and none of them is called {slide.name}."
        findings.append(finding(AssayCode.SEVERAL_SLIDES, sentence, "Say what the table calls this slide.", "column slide"))
    elif not mine and not _of_another(slide, ids[0], findings):
        mine = ids
        sentence = f"The table calls its slide {ids[0]}; by your word it is {slide.name} of patient {patient.code}."
        findings.append(
            finding(AssayCode.SLIDE_NAMED_OTHERWISE, sentence, "Nothing to do if that is right.", "column slide", Severity.INFO)
        )
    if not mine:
        return None, np.empty(0, np.int64)
    kept = np.flatnonzero(table.slide == mine[0])
    return table.rows(kept), kept + 2


def _of_another(slide: Slide, name: str, findings: list[Finding]) -> bool:
    """Whether the cohort knows that name for another slide or patient; then it is said."""
    cohort = slide.sample.patient.cohort_id
    slides = Slide.objects.filter(sample__patient__cohort=cohort).exclude(pk=slide.pk).select_related("sample__patient")
    other = slides.filter(name=name).first()
    if other is not None and other.sample.patient_id == slide.sample.patient_id:
        sentence = f"The table is of the slide {other.name} of the same patient, not of {slide.name}."
        findings.append(finding(AssayCode.SLIDE_DISAGREES, sentence, "Choose that slide, or correct the table.", "column slide"))
        return True
    other = other or slides.filter(sample__patient__code=name).exclude(sample__patient=slide.sample.patient).first()
    if other is None:
        return False
    whose = f"the slide {other.name} of patient {other.sample.patient.code}" if other.name == name else f"patient {name}"
    sentence = f"The table is of {whose}; the slide {slide.name} is of patient {slide.sample.patient.code}."
    hint = "Nothing was changed. Choose the right slide, or find out whose tissue was measured."
    findings.append(finding(AssayCode.PATIENT_DISAGREES, sentence, hint, "column slide"))
    return True


def check_tiles_size(slide: Slide, tile_um: float, findings: list[Finding]) -> bool:
    """Whether a tile of that side can be one of this slide."""
    low, high = PLAUSIBLE_UM
    side = min(slide.width, slide.height) * float(slide.mpp or 0)
    if low <= tile_um <= min(high, side):
        return True
    why = f"the slide is {side:.0f} um wide" if low <= tile_um <= high else f"tiles are {low:g} to {high:g} um wide"
    sentence = f"A tile of {tile_um:g} um is not plausible: {why}."
    findings.append(finding(AssayCode.TILE_SIZE_IMPLAUSIBLE, sentence, "Give the side in um: 224 px at 0.25 um per px are 56 um."))
    return False


def check_tiles(slide: Slide, table: LabelTable, rows: NDArray[Any], tile_um: float, findings: list[Finding]) -> None:
    """Number, places and distances of the tiles. table: xy in px0 of the working slide. rows: their row numbers in the file."""
    import numpy as np

    n, size, side = len(table), np.array([slide.width, slide.height]), tile_um / float(slide.mpp or 1)
    outside = ((table.xy < 0) | (table.xy >= size)).any(axis=1)
    if outside.any():
        first = int(np.argmax(outside))
        sentence = f"{int(outside.sum())} of {n} tiles lie off the slide of {slide.width} x {slide.height} px."
        x, y = table.xy[first].tolist()
        hint = f"The first is at x {x}, y {y}: check that the table is of this slide, in pixels of its level 0."
        findings.append(finding(AssayCode.COORDS_OUTSIDE, sentence, hint, f"row {rows[first]}"))
    elif over := int(((table.xy + side) > size + 1).any(axis=1).sum()):
        sentence = f"{over} of {n} tiles reach over the slide's edge, where there is no picture."
        findings.append(finding(AssayCode.TILE_OVER_EDGE, sentence, "Check the side of the tiles.", severity=Severity.WARNING))
    _, first_of, times = np.unique(table.xy, axis=0, return_inverse=True, return_counts=True)
    if (times > 1).any():
        group = int(np.argmax(times > 1))
        one, two = np.flatnonzero(first_of.ravel() == group)[:2]
        sentence = f"{int((times[times > 1] - 1).sum())} tiles lie exactly where another one lies."
        hint = f"The rows {rows[one]} and {rows[two]} have the same x and y: keep one of them."
        findings.append(finding(AssayCode.COORDS_TWICE, sentence, hint, f"row {rows[two]}"))
    if n < LEAST_TILES:
        sentence = f"The slide has {n} measured tile{'s' * (n != 1)}; fewer than {LEAST_TILES} say nothing about it."
        findings.append(finding(AssayCode.TOO_FEW_TILES, sentence, "Bring the whole table of the slide."))
    _spacing(table, side, tile_um, findings)


def _spacing(table: LabelTable, side: float, tile_um: float, findings: list[Finding]) -> None:
    """A warning where the tiles lie on a grid whose step is not their side: the usual sign of a wrong um per px or tile size."""
    import numpy as np

    steps = np.concatenate([np.diff(np.unique(table.xy[:, axis])) for axis in (0, 1)])
    if len(steps) < 2:
        return
    step, times = (int(v) for v in max(zip(*np.unique(steps, return_counts=True)), key=lambda pair: pair[1]))
    regular = times >= 0.8 * len(steps)
    if regular and abs(step / side - 1) > SPACING_TOLERANCE:
        sentence = f"The tiles lie {step} px apart, but a tile of {tile_um:g} um is {side:.4g} px wide on this slide."
        hint = f"If they lie side by side, their side is {tile_um * step / side:.4g} um here; or the um per px of the slide is wrong."
        findings.append(finding(AssayCode.TILE_SPACING, sentence, hint, severity=Severity.WARNING))


def check_panel(markers: Sequence[str], name: str, findings: list[Finding]) -> None:
    """A named panel has to have these very markers, or be new."""
    if len(name) > MAX_PANEL_NAME or not name.isprintable():
        sentence = f"The name of a panel has at most {MAX_PANEL_NAME} printable characters."
        findings.append(finding(AssayCode.PANEL_DIFFERS, sentence, "Give a shorter one, or none."))
        return
    known = Panel.objects.filter(name=name).first() if name else None
    if known is not None and known.markers != list(markers):
        odd = [m for m in markers if m not in known.markers] or [m for m in known.markers if m not in markers]
        said = f"{_some(odd)} {'is' if len(odd) == 1 else 'are'} in one of them only" if odd else "their order is another one"
        sentence = f"The panel {name} has {len(known.markers)} markers, the table {len(markers)}: {said}."
        findings.append(finding(AssayCode.PANEL_DIFFERS, sentence, "Give the panel of this table another name, or none."))


def check_scale(slide: Slide, table: LabelTable, findings: list[Finding]) -> None:
    """A warning where other slides of the cohort with the same markers look like another unit: one training cannot use both."""
    cohort = slide.sample.patient.cohort_id
    others = Assay.objects.filter(sample__patient__cohort=cohort, panel__markers=list(table.markers), simulated=False).exclude(slide=slide)
    scales = [scale for scale in others.values_list("facts__scale", flat=True) if scale and scale != table.scale_hint]
    if scales:
        sentence = f"The values look like {table.scale_hint}; those of {len(scales)} other slides of the cohort look like {scales[0]}."
        hint = "A training scales all slides alike: bring them in one unit before you train on both."
        findings.append(finding(AssayCode.SCALE_DIFFERS, sentence, hint, severity=Severity.WARNING))


def _some(names: Sequence[str]) -> str:
    return ", ".join(one[:40] for one in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
