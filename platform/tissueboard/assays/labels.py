"""Measured labels of a slide: a table of mean intensities per tile, held against the slide it is said to be of, and kept as an Assay.

Values stay as they came: scaling is each training's choice. What is wrong is collected and told together; nothing is kept then.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction

from ml.slides.findings import Finding, Severity
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.slides.models import Slide
from tissueboard.slides.region_imports import origin_of
from tissueboard.slides.regions import need_ready
from tissueboard.store import checksum, store

from .errors import AssayCode, LabelsRefused
from .label_checks import check_panel, check_scale, check_tiles, check_tiles_size, choose_rows, finding, refusal_of
from .models import Assay, MultiplexImage, Panel

if TYPE_CHECKING:
    from ml.hex.label_tables import LabelTable

TILE_UM = 56.0  # HEX: 224 px at 40x
KINDS = [(value, label) for value, label in MultiplexImage.Technology.choices if value != MultiplexImage.Technology.UNKNOWN]
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Asked:
    """What a person says about labels.

    kind: of KINDS. tile_um: side of a tile in um. markers: names of numbered channels, or None. panel: its name, "" to find or make one.
    table_slide: what the table calls this slide, where it holds several. whole_file: its pixels start at the corner of the whole original
    (OpenSlide, CLAM, TRIDENT), not of its scanned part (QuPath). replace: other labels of this kind make room.
    """

    kind: str = "codex"
    tile_um: float = TILE_UM
    markers: Sequence[str] | None = None
    panel: str = ""
    table_slide: str = ""
    whole_file: bool = True
    replace: bool = False


@dataclass(frozen=True)
class Labels:
    """Labels that were checked and can be kept. table: xy in px0 of the working slide. key: where the Parquet lies; "" in a dry run."""

    slide: Slide
    asked: Asked
    table: LabelTable
    findings: list[Finding]
    facts: dict[str, Any]
    simulated: bool
    key: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class LabelResult:
    """state: added, checked (a dry run) or there already. assay: None in a dry run. findings: warnings and what is good to know."""

    state: str
    assay: Assay | None
    findings: list[Finding]
    n_tiles: int
    markers: tuple[str, ...]
    scale: str


def add_labels(
    user: Any, slide: Slide, source: Path | LabelTable, asked: Asked | None = None, *, file_name: str = "", dry_run: bool = False
) -> LabelResult:
    """Keeps the measured labels of one slide as an Assay. Needs contributor (user None: the house itself).

    source: a label table in HEX's layout, as a file or read already. file_name: the name under which a person sent it. The same labels
    again change nothing. dry_run: only checks.
    Errors: NotVisible, RoleMissing, TissueboardError SLIDE_NOT_READY (409), LabelsRefused with everything that is wrong with them.
    """
    from ml.hex.errors import HexDataError
    from ml.hex.label_child import read_label_table_isolated

    asked = asked or Asked()
    may_add(user, slide, asked)
    facts: dict[str, Any] = {"source": "table"}
    table = source
    if isinstance(table, Path):
        facts["source_sha256"] = checksum(table) if table.is_file() else ""
        try:
            table = read_label_table_isolated(table, asked.markers, file_name)
        except HexDataError as error:
            raise refusal_of(error) from error
    labels = check_labels(slide, table, asked, facts, simulated=False)
    if dry_run:
        return _result("checked", None, labels)
    labels = stored(labels)
    try:
        return keep(user, labels)
    except LabelsRefused:
        forget(labels)
        raise


def forget(labels: Labels) -> None:
    """Removes the Parquet of labels that were not kept, unless it is that of a row."""
    if not Assay.objects.filter(key=labels.key).exists():
        store.delete(labels.key)


def check_labels(slide: Slide, table: LabelTable, asked: Asked, facts: dict[str, Any], *, simulated: bool) -> Labels:
    """Holds a table against its slide; writes nothing. Its xy are as the file has them. LabelsRefused with all that is wrong."""
    if slide.simulated != simulated:
        what = ("simulated", "measured") if slide.simulated else ("real", "simulated")
        sentence = f"The slide {slide.name} is {what[0]}; {what[1]} labels do not belong on it."
        raise LabelsRefused([finding(AssayCode.SLIDE_SIMULATED, sentence, "Choose another slide.")], status=409)
    findings: list[Finding] = []
    found, rows = choose_rows(slide, table, asked.table_slide, findings)
    if found is not None:
        origin = [round(value) for value in origin_of(slide, asked.whole_file)]
        found = replace(found, xy=found.xy - origin)
        if check_tiles_size(slide, asked.tile_um, findings):
            check_tiles(slide, found, rows, asked.tile_um, findings)
        check_panel(found.markers, asked.panel, findings)
        check_scale(slide, found, findings)
    if any(one.severity == Severity.ERROR for one in findings):
        raise LabelsRefused(findings)
    assert found is not None
    facts = {**facts, "n_tiles": len(found), "scale": found.scale_hint}
    return Labels(slide, asked, found, findings, facts, simulated)


def stored(labels: Labels) -> Labels:
    """Writes the Parquet into the store under a key that its content names. LabelsRefused DISK_FULL (507)."""
    import pandas as pd

    table = pd.DataFrame(labels.table.values.astype("float32"), columns=list(labels.table.markers))
    table.insert(0, "y", labels.table.xy[:, 1])
    table.insert(0, "x", labels.table.xy[:, 0])
    temp = store.new_temp(".parquet")
    try:
        table.to_parquet(temp, index=False)
        sha256 = checksum(temp)
        kind = re.sub(r"\W+", "-", labels.asked.kind)
        key = f"assays/labels/{labels.slide.pk}/{kind}-{sha256[:16]}.parquet"
        if not store.exists(key):
            store.save(temp, key)
    except OSError as error:
        if error.errno not in FULL:
            raise
        sentence = "The server's disk is full: the labels could not be written."
        hint = "Ask the people who run this server to make room, then send them again."
        raise LabelsRefused([finding(AssayCode.DISK_FULL, sentence, hint)], status=507) from error
    finally:
        temp.unlink(missing_ok=True)
    return replace(labels, key=key, sha256=sha256)


@transaction.atomic
def keep(user: Any, labels: Labels) -> LabelResult:
    """The row of labels whose Parquet is written. LabelsRefused LABELS_EXIST, PATIENT_DISAGREES (409)."""
    slide = need_ready(Slide.objects.select_for_update(of=("self",)).select_related("sample__patient__cohort").get(pk=labels.slide.pk))
    here = Assay.objects.filter(slide=slide, kind=labels.asked.kind).first()
    same = here is not None and here.sha256 == labels.sha256 and here.tile_um == labels.asked.tile_um
    if here is not None and same:
        return _result("there already", here, labels)
    _refuse_taken(slide, here, labels)
    assay = here or Assay(slide=slide, kind=labels.asked.kind)
    old, assay.sample = assay.key, slide.sample
    assay.panel, assay.tile_um, assay.simulated = _panel(labels), labels.asked.tile_um, labels.simulated
    assay.key, assay.sha256, assay.facts, assay.created_by = labels.key, labels.sha256, labels.facts, user
    assay.findings = [one.to_dict() for one in labels.findings if one.severity == Severity.WARNING]
    assay.save()
    patient = slide.sample.patient
    record(user, "replace labels" if old else "add labels", assay, cohort_id=patient.cohort_id, patient_code=patient.code)
    if old and old != labels.key:
        transaction.on_commit(lambda: store.delete(old))
    return _result("added", assay, labels)


def may_add(user: Any, slide: Slide, asked: Asked) -> None:
    """Right, state of the slide, kind. Errors as `add_labels`."""
    if user is not None:
        require(user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    need_ready(slide)
    if asked.kind not in dict(KINDS):
        known = ", ".join(value for value, _ in KINDS)
        sentence = f"There is no kind of measurement {asked.kind[:24]!r}."
        raise LabelsRefused([finding(AssayCode.BAD_LABEL_KIND, sentence, f"It is one of {known}.")])


def _refuse_taken(slide: Slide, here: Assay | None, labels: Labels) -> None:
    """Other labels in this place, or these ones on another slide: one table cannot be of two."""
    code, patient = "", slide.sample.patient
    if here is not None and not labels.asked.replace:
        code = AssayCode.LABELS_EXIST
        sentence = f"The slide {slide.name} has other {here.kind} labels ({here.facts.get('n_tiles', 'some')} tiles, {here.panel.name})."
        hint = "They are kept. Say that they are to be replaced if these are the right ones."
    elsewhere = Assay.objects.filter(sample__patient__cohort=patient.cohort, sha256=labels.sha256).exclude(slide=slide)
    if (other := elsewhere.select_related("slide__sample__patient").first()) is not None:
        code = AssayCode.PATIENT_DISAGREES
        sentence = f"The slide {other.slide.name} of patient {other.slide.sample.patient.code} has the very same labels."
        hint = "Nothing was changed. Find out which of the two slides was measured."
    if code:
        raise LabelsRefused([finding(code, sentence, hint)], status=409)


def _panel(labels: Labels) -> Panel:
    """The panel of these markers: the named one, one that is there, or a new one."""
    markers = list(labels.table.markers)
    if labels.asked.panel:
        return Panel.objects.get_or_create(name=labels.asked.panel, defaults={"markers": markers})[0]
    known = Panel.objects.filter(markers=markers).order_by("pk").first()
    if known is not None:
        return known
    name = f"{markers[0]} and {len(markers) - 1} more" if len(markers) > 1 else markers[0]
    taken = set(Panel.objects.filter(name__startswith=name[:60]).values_list("name", flat=True))
    names = (f"{name[:60]} ({number})" if number else name[:60] for number in range(len(taken) + 1))
    return Panel.objects.create(name=next(one for one in names if one not in taken), markers=markers)


def _result(state: str, assay: Assay | None, labels: Labels) -> LabelResult:
    return LabelResult(state, assay, labels.findings, len(labels.table), labels.table.markers, labels.facts["scale"])


def slide_named(user: Any, cohort: Cohort, name: str) -> Slide:
    """The slide of that name in a cohort, for a contributor. TissueboardError SLIDE_UNKNOWN where there is none, or there are several."""
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    found = list(Slide.objects.filter(sample__patient__cohort=cohort, name=name).select_related("sample__patient__cohort")[:2])
    if len(found) == 1:
        return found[0]
    sentence = f"There is no slide {name} in {cohort.name}." if not found else f"Several slides in {cohort.name} are called {name}."
    raise TissueboardError(AssayCode.SLIDE_UNKNOWN, sentence, "The names stand on the cohort's tab of slides.")
