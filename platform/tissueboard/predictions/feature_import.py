"""Features that TRIDENT or CLAM made, taken in without encoding again: matched to slides, checked, converted, published by a job.

A dry run and the real one make the same plan; every file and every slide without one has its finding. What was computed here is never
touched: imported bags belong to a version of their own, labelled imported.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.intake.models import Import
from tissueboard.jobs import services
from tissueboard.jobs.code_version import code_version
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import NewVersion, register
from tissueboard.slides.models import Slide
from tissueboard.slides.processing import restrictions_of
from tissueboard.slides.tiling import input_key
from tissueboard.store import checksum, store

from .models import Prediction
from .publishing import publish_output
from .sources import load_source

if TYPE_CHECKING:
    from ml.slides.foreign_bags import BagContent, ForeignBag

KIND = "predictions.import_features"
TILE_TOLERANCE = 0.15  # of the median: scanners called 40x differ that much in um per px


@dataclass
class PlannedBag:
    """One file with the slide that it is of. done: it is here already."""

    bag: ForeignBag
    slide: Slide
    content: BagContent
    sha256: str
    done: bool = False

    @property
    def tile_um(self) -> float:
        return (self.content.tile_px0 or 0.0) * float(self.slide.mpp or 0.0)


@dataclass
class ImportPlan:
    """What an import would do. bags: those that can be taken in. findings: everything there is to say, also about slides without a file."""

    cohort: Cohort
    encoder: str
    layout: str
    bags: list[PlannedBag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def due(self) -> list[PlannedBag]:
        return [planned for planned in self.bags if not planned.done]

    @property
    def tile_um(self) -> float:
        return round(median([planned.tile_um for planned in self.bags]), 1) if self.bags else 0.0


def plan_import(
    user: Any, cohort: Cohort, folder: Path, encoder: str, mapping: Path | None = None, coords: Path | None = None
) -> ImportPlan:
    """Finds, matches and checks; writes nothing. user: contributor, or None for the house itself.

    mapping: CSV with the columns slide and file, for files that are named otherwise. coords: folder of CLAM's patch files.
    Errors: RoleMissing, NotVisible; TissueboardError FILE_MISSING (no features there), MAPPING_INVALID.
    """
    from ml.slides.foreign_bags import find_bags

    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    try:
        found = find_bags(folder, encoder, coords) if _has(folder, encoder) else find_bags(folder, "", coords)
    except SlideError as error:
        raise TissueboardError(error.code, error.sentence, error.hint, where=error.where) from error
    plan = ImportPlan(cohort, encoder, found[0].layout if found else "")
    slides = list(Slide.objects.filter(sample__patient__cohort=cohort, state=Slide.State.READY).select_related("sample__patient__cohort"))
    pairs = _match(plan, found, slides, _mapping(mapping, slides) if mapping is not None else {})
    for bag, slide in pairs:
        _check(plan, bag, slide)
    _same_shape(plan)
    _not_twice(plan)
    _beside_regions(plan)
    return plan


def import_bags(user: Any, plan: ImportPlan, source: str) -> list[Job]:
    """Converts every due bag into the store and asks for the job that publishes it. source: where they are from, for the provenance."""
    if user is not None:
        require(user, plan.cohort, Role.CONTRIBUTOR)
    if not plan.due:
        return []
    version = imported_version(user, plan)
    jobs = [_bring(user, plan, version, planned, source) for planned in plan.due]
    record(user, "import features", plan.cohort, cohort_id=plan.cohort.pk)
    return jobs


def publish_imported(ctx: JobContext) -> Done:
    """Job predictions.import_features. params: slide, version, key, sha256, facts, inputs. Checks the converted file and publishes it."""
    from ml.slides.features import check_bag

    source, params = load_source(ctx.params), ctx.params
    try:
        held = check_bag(store.path(params["key"]))
    except SlideError as error:
        raise JobRefused(error.code, error.sentence, "Import the features again.", where=error.where) from error
    if held.n != params["facts"]["n_tiles"] or checksum(store.path(params["key"])) != params["sha256"]:
        raise JobRefused("FILE_CHANGED", f"The imported features of {source.slide.name} changed in the store.", "Import them again.")
    fields = {name: params[name] for name in ("inputs", "facts", "key", "sha256")} | {"code_version": ctx.code_version}

    def publish() -> None:
        other = _published(source.slide, source.version)
        if other is not None and other.sha256 != params["sha256"]:
            raise JobRefused(
                "ALREADY_IMPORTED", f"{source.slide.name} has other imported features by now.", "Look at them before you decide."
            )
        publish_output(source, Prediction.Kind.FEATURE_BAG, {"job_id": ctx.job_id, **fields})

    return Done([OutputSpec(Prediction.Kind.FEATURE_BAG, params["key"], {"sha256": params["sha256"], **params["facts"]})], publish)


def imported_version(user: Any, plan: ImportPlan) -> ModelVersion:
    """The version that stands for features of this encoder from elsewhere; it has no weights. Made with its first import.

    Everybody may see it, so it says nothing of the cohort that came first: where bags are from stands beside each of them.
    """
    from ml.encoders import CATALOGUE

    found = _version(plan.encoder)
    if found is not None:
        return found
    spec = CATALOGUE.get(plan.encoder)
    facts = {"dim": plan.bags[0].content.dim, "tile_um": plan.tile_um, "layout": plan.layout, "weights": "absent"}
    provenance = {"inputs": {}, "made_at": timezone.now().isoformat(timespec="seconds"), "code_version": code_version(), "facts": facts}
    folder = store.new_temp()
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps({"imported": plan.encoder, **provenance}, indent=1))
    sha = checksum(folder)
    key = f"models/encoder/imported-{sha[:12]}"
    store.save(folder, key)
    new = NewVersion(
        family="encoder",
        name=version_name(plan.encoder),
        label=ModelVersion.Label.IMPORTED,
        config={"imported": plan.encoder, "dim": facts["dim"], "tile_um": facts["tile_um"]},
        key=key,
        sha256=sha,
        provenance=provenance,
        licence=spec.licence if spec else "unknown",
        metrics={},
        members={},
        pitch_um=plan.tile_um,
        pretraining_overlap=spec.pretraining_overlap if spec else "unknown",
    )
    return register(new, cohorts=[], user=user, replaces=lambda older: False)


def version_name(encoder: str) -> str:
    return f"{encoder} (imported)"


def _version(encoder: str) -> ModelVersion | None:
    return ModelVersion.objects.filter(family="encoder", name=version_name(encoder), label=ModelVersion.Label.IMPORTED).first()


def _published(slide: Slide, version: ModelVersion | None) -> Prediction | None:
    return Prediction.objects.filter(slide=slide, version=version, kind=Prediction.Kind.FEATURE_BAG).first() if version else None


def _has(folder: Path, encoder: str) -> bool:
    """Whether the folder names its sets by encoder and this one is among them; otherwise the person's word counts."""
    return bool(encoder) and (folder.name == f"features_{encoder}" or any(folder.rglob(f"features_{encoder}")))


def _mapping(path: Path, slides: Iterable[Slide]) -> dict[str, str]:
    """File stem -> name of a slide, from a CSV with the columns slide and file."""
    names = {slide.name for slide in slides}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TissueboardError("MAPPING_INVALID", f"The mapping {path.name} cannot be read.", "Save it as CSV in UTF-8.") from error
    if not rows or not {"slide", "file"} <= set(rows[0]):
        raise TissueboardError(
            "MAPPING_INVALID", f"The mapping {path.name} needs the columns slide and file.", "Add them as its first row."
        )
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        slide, stem = (row["slide"] or "").strip(), _stem((row["file"] or "").strip())
        if slide not in names:
            sentence = f"There is no ready slide {slide or '(empty)'} in the cohort."
            raise TissueboardError("MAPPING_INVALID", sentence, "Correct the row.", where=f"{path.name}, row {number}, column slide")
        if found.setdefault(stem, slide) != slide or not stem:
            sentence = f"The file {stem or '(empty)'} is named for two slides." if stem else "The row names no file."
            raise TissueboardError("MAPPING_INVALID", sentence, "Correct the row.", where=f"{path.name}, row {number}, column file")
    return found


def _stem(file: str) -> str:
    """A file's name without folder and without the endings of slides and features."""
    name = file.replace("\\", "/").rsplit("/", maxsplit=1)[-1]
    for ending in (
        ".ome.tiff",
        ".ome.tif",
        ".h5",
        ".pt",
        ".svs",
        ".tiff",
        ".tif",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".bif",
        ".vms",
        ".dcm",
        ".zip",
    ):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _match(plan: ImportPlan, bags: list[ForeignBag], slides: list[Slide], mapping: dict[str, str]) -> list[tuple[ForeignBag, Slide]]:
    """By the mapping, else by the slide's name, else by the name that its file had when it was imported."""
    by_name: dict[str, list[Slide]] = {}
    for slide in slides:
        by_name.setdefault(slide.name, []).append(slide)
    files = Import.objects.filter(cohort=plan.cohort, kind=Import.Kind.SLIDE, sha256__in=[s.sealed_sha256 for s in slides])
    original = {sha: _stem(name) for sha, name in files.values_list("sha256", "file_name")}
    by_file: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.sealed_sha256 in original:
            by_file.setdefault(original[slide.sealed_sha256], []).append(slide)
    pairs: list[tuple[ForeignBag, Slide]] = []
    for bag in bags:
        found = by_name.get(mapping.get(bag.name, bag.name)) or by_file.get(bag.name) or []
        if len(found) == 1:
            pairs.append((bag, found[0]))
            continue
        code = FindingCode.SLIDE_NAMED_TWICE if found else FindingCode.FILE_WITHOUT_SLIDE
        sentence = f"{len(found)} slides of the cohort go by this name." if found else "No ready slide of the cohort goes by this name."
        plan.findings.append(
            _finding(code, Severity.WARNING, bag.features.name, sentence, "Name its slide in a mapping: columns slide, file.")
        )
    taken = Counter(slide.pk for _, slide in pairs)
    for slide in slides:
        if not taken[slide.pk]:
            plan.findings.append(
                _finding(
                    FindingCode.SLIDE_WITHOUT_FILE,
                    Severity.INFO,
                    slide.name,
                    "There is no file for this slide.",
                    "Its features can be made here.",
                )
            )
    for bag, slide in pairs:
        if taken[slide.pk] > 1:
            sentence = f"Several files are of the slide {slide.name}."
            plan.findings.append(_finding(FindingCode.SLIDE_NAMED_TWICE, Severity.ERROR, bag.features.name, sentence, "Keep one of them."))
    return [(bag, slide) for bag, slide in pairs if taken[slide.pk] == 1]


def _check(plan: ImportPlan, bag: ForeignBag, slide: Slide) -> None:
    """Reads a bag and holds it against its slide; it is taken into the plan if nothing speaks against it."""
    from ml.encoders import CATALOGUE
    from ml.slides.foreign_bags import check_fit, read_content

    version, spec = _version(plan.encoder), CATALOGUE.get(plan.encoder)
    dim = version.config["dim"] if version else spec.dim if spec else plan.bags[0].content.dim if plan.bags else None
    try:
        content = read_content(bag)
    except SlideError as error:
        plan.findings.append(error.finding(bag.features.name))
        return
    findings = check_fit(bag, content, float(slide.mpp or 0), (slide.width, slide.height), dim)
    plan.findings += findings
    if not findings:
        plan.bags.append(PlannedBag(bag, slide, content, checksum(bag.features)))


def _same_shape(plan: ImportPlan) -> None:
    """One version stands for one size of tile: bags that are far from it are not of this set."""
    version = _version(plan.encoder)
    middle = float(version.config["tile_um"]) if version else plan.tile_um
    for planned in [*plan.bags]:
        if abs(planned.tile_um - middle) > TILE_TOLERANCE * middle:
            plan.bags.remove(planned)
            sentence = f"Its tiles are {planned.tile_um:.4g} um wide; those of the others are {middle:.4g} um."
            hint = "Import sets of different tiles under different names, e.g. --encoder uni-512px."
            plan.findings.append(_finding(FindingCode.TILE_SIZE_DIFFERS, Severity.ERROR, planned.bag.features.name, sentence, hint))


def _not_twice(plan: ImportPlan) -> None:
    version = _version(plan.encoder)
    for planned in [*plan.bags]:
        there = _published(planned.slide, version)
        if there is None:
            continue
        same = planned.sha256 in there.inputs.values()
        planned.done = same
        sentence = f"The slide {planned.slide.name} has {'these' if same else 'other'} imported features already."
        hint = "Nothing to do." if same else "They are kept. Import this set under another name if you want both."
        severity = Severity.INFO if same else Severity.ERROR
        plan.findings.append(_finding(FindingCode.ALREADY_IMPORTED, severity, planned.bag.features.name, sentence, hint))
        if not same:
            plan.bags.remove(planned)


def _beside_regions(plan: ImportPlan) -> None:
    """Tiles chosen elsewhere know nothing of the regions drawn here: who imports them is told."""
    restricted = restrictions_of([planned.slide for planned in plan.due])
    for planned in plan.due:
        if restricted[planned.slide.pk]:
            sentence = f"Regions say what is analysed of the slide {planned.slide.name}; the tiles of the file are taken as they are."
            hint = "Make its features here if they are to follow the regions."
            plan.findings.append(_finding(FindingCode.REGIONS_NOT_APPLIED, Severity.WARNING, planned.bag.features.name, sentence, hint))


def _bring(user: Any, plan: ImportPlan, version: ModelVersion, planned: PlannedBag, source: str) -> Job:
    from ml.slides.foreign_bags import convert

    slide, content = planned.slide, planned.content
    temp = store.new_temp(".h5")
    try:
        told = {"imported": plan.encoder, "layout": plan.layout, "source_sha256": planned.sha256}
        convert(planned.bag, content, temp, slide.name, float(slide.mpp or 0), (slide.width, slide.height), told)
        key = f"slides/{slide.pk}/imported-{version.pk}-{planned.sha256[:12]}.h5"
        sha256 = store.save(temp, key)
    finally:
        temp.unlink(missing_ok=True)
    facts = {"n_tiles": content.n, "n_skipped": 0, "tile_um": round(planned.tile_um, 4), "dim": content.dim, "encoder": plan.encoder}
    facts |= {"imported": plan.layout, "from": source}
    # No regions and no tissue mask of ours: the tiles were chosen elsewhere.
    inputs = {"working slide": slide.working_sha256, "weights": version.sha256}
    inputs |= {"imported file": planned.sha256, "input key": input_key(slide)}
    params = {"slide": slide.pk, "version": version.pk, "key": key, "sha256": sha256, "facts": facts, "inputs": inputs}
    return services.enqueue(user, KIND, params, cohorts=[plan.cohort], key=planned.sha256)


def _finding(code: str, severity: str, file: str, sentence: str, hint: str) -> Finding:
    return Finding(code, severity, file, "", sentence, hint)
