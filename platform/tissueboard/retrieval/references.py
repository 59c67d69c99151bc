"""Which reference is searched: versions side by side, what each covers, and which one answers by default.

A new version takes the place of an older one of its family in a cohort when its niche sets cover all tissues there that the older one
covered, or when a manager says so: while tissues are embedded again, the older one answers, and both may be chosen. Measured images
and slides with virtual proteins are never in one reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q

from tissueboard.accounts.audit import record
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import Code, TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

from .errors import RetrievalCode
from .models import ReferenceChoice
from .tissues import Tissue, column, is_measured, of_kind

MAX_WHY = 200
NICHE_SET = Prediction.Kind.NICHE_SET


@dataclass(frozen=True)
class Reference:
    """A version that may be searched, with what it covers of the tissues that the user may see (n_covered of n_tissues).

    measured: of images with measured channels; else of slides. in_use: answers by default in the cohort. decided_by: the manager who said
    so, "" where nobody had to.
    """

    version: ModelVersion
    measured: bool
    in_use: bool
    n_covered: int
    n_tissues: int
    decided_by: str = ""

    @property
    def title(self) -> str:
        return f"{what_it_is(self.version, self.measured)} ({self.version.name})"


def what_it_is(version: ModelVersion, measured: bool) -> str:
    """What the niches of a version say, for people."""
    from ml.families import FAMILIES

    size = version.config.get("niche_um")
    niches = f"niches of {size:g} µm" if isinstance(size, int | float) else "niches"
    if version.family == "niche" and not measured:
        return f"virtual proteins and H&E, {niches}"
    family = FAMILIES[version.family].title.split(":")[0] if version.family in FAMILIES else version.family
    return f"{family}, {'measured channels' if measured else 'virtual proteins'}, {niches}"


def references_of(user: Any, tissue: Tissue) -> list[Reference]:
    """What a tissue can be compared in, the one in use first, then the newest. Empty where it has no niche set that the user may see."""
    measured, cohort = is_measured(tissue), tissue.sample.patient.cohort
    own = Prediction.objects.visible_to(user).filter(**column(tissue), kind=NICHE_SET)
    versions = ModelVersion.objects.filter(pk__in=own.values("version"))
    return _described(user, cohort, measured, versions, simulated=tissue.simulated)


def references_of_cohort(user: Any, cohort: Cohort) -> list[Reference]:
    """All references with a niche set in a cohort: what each covers of its slides or images, those in use first."""
    found: list[Reference] = []
    for measured in (False, True):
        sets = Prediction.objects.visible_to(user).filter(of_kind(measured), patient__cohort=cohort, kind=NICHE_SET)
        versions = ModelVersion.objects.filter(pk__in=sets.order_by().values("version"))
        found += _described(user, cohort, measured, versions, within=cohort)
    return found


def _described(
    user: Any, cohort: Cohort, measured: bool, versions: Any, *, simulated: bool | None = None, within: Cohort | None = None
) -> list[Reference]:
    found = list(versions.order_by("-created_at", "-pk"))
    if not found:
        return []
    tissues: Any = MultiplexImage if measured else Slide
    ready = tissues.objects.visible_to(user).filter(state="ready")
    sets = Prediction.objects.visible_to(user).filter(of_kind(measured), version__in=found, kind=NICHE_SET)
    if simulated is not None:
        ready, sets = ready.filter(simulated=simulated), sets.filter(**{f"{'image' if measured else 'slide'}__simulated": simulated})
    if within is not None:
        ready, sets = ready.filter(sample__patient__cohort=within), sets.filter(patient__cohort=within)
    covered = dict(sets.order_by().values_list("version").annotate(n=Count("pk")))
    n_tissues = max(ready.count(), *covered.values(), 0)
    used = in_use(cohort, measured)
    # A tissue that the version in use does not know: the same rule among those that know it.
    first = used.keys() & {v.pk for v in found} or in_use(cohort, measured, among=found).keys()
    rows = [Reference(v, measured, v.pk in used, covered.get(v.pk, 0), n_tissues, used.get(v.pk, "")) for v in found]
    return sorted(rows, key=lambda r: r.version.pk not in first)


def in_use(cohort: Cohort, measured: bool, among: list[ModelVersion] | None = None) -> dict[int, str]:
    """{version id: who decided it ("" where coverage did)} of the versions that answer by default in a cohort, one per family.

    among: only these versions are asked about (None: all with a niche set there).
    """
    sets = Prediction.objects.filter(of_kind(measured), patient__cohort=cohort, kind=NICHE_SET)
    sets = sets if among is None else sets.filter(version__in=among)
    versions = list(ModelVersion.objects.filter(pk__in=sets.order_by().values("version")).order_by("created_at", "pk"))
    chosen = {c.family: c for c in ReferenceChoice.objects.filter(cohort=cohort, measured=measured).select_related("decided_by")}
    used: dict[str, ModelVersion] = {}
    for version in versions:
        before = used.get(version.family)
        if before is None or not _left_uncovered(sets, before, version, measured).exists():
            used[version.family] = version
    found = {v.pk: "" for family, v in used.items() if family not in chosen}
    return found | {c.version_id: c.decided_by.get_username() for c in chosen.values()}


def _left_uncovered(sets: Any, older: ModelVersion, newer: ModelVersion, measured: bool) -> Any:
    """Sets of the older version whose tissue has none of the newer one."""
    what = "image" if measured else "slide"
    again = Prediction.objects.filter(version=newer, kind=NICHE_SET, **{what: OuterRef(what)})
    return sets.filter(~Q(Exists(again)), version=older)


def choose(user: Any, tissue: Tissue, version_id: int | None = None) -> tuple[Reference | None, list[Reference]]:
    """(the reference to search, all of them). version_id None: the one in use, else the newest that the tissue has; None where it has none.

    Raises TissueboardError REFERENCE_UNKNOWN for a version that the tissue has no niche set of.
    """
    offered = references_of(user, tissue)
    if version_id is None:
        return (offered[0] if offered else None), offered
    chosen = next((r for r in offered if r.version.pk == version_id), None)
    if chosen is None:
        raise TissueboardError(
            RetrievalCode.REFERENCE_UNKNOWN,
            f"This tissue has no niche set of the version {version_id}.",
            "Choose one of the references that it has.",
            where="version",
            status=404,
        )
    return chosen, offered


@transaction.atomic
def use_reference(user: Any, cohort: Cohort, version_id: int, measured: bool, why: str) -> Reference:
    """Makes a version the one that answers by default in a cohort, whatever it covers. Needs manager; the reason is kept.

    Errors: NotVisible, RoleMissing, BAD_REQUEST (`where` is "why"), REFERENCE_UNKNOWN (404) for a version without a niche set there.
    """
    require(user, cohort, Role.MANAGER)
    why = " ".join(why.split())
    if not 1 <= len(why) <= MAX_WHY:
        sentence = f"A reason of 1 to {MAX_WHY} characters is needed." if not why else f"A reason has at most {MAX_WHY} characters."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Say in a sentence why this version should answer.", where="why")
    offered = {(r.version.pk, r.measured): r for r in references_of_cohort(user, cohort)}
    if (version_id, measured) not in offered:
        raise TissueboardError(
            RetrievalCode.REFERENCE_UNKNOWN,
            "This cohort has no niche set of that version.",
            "Choose one of the list.",
            where="version",
            status=404,
        )
    version = offered[version_id, measured].version
    choice, _ = ReferenceChoice.objects.update_or_create(
        cohort=cohort, family=version.family, measured=measured, defaults={"version": version, "why": why, "decided_by": user}
    )
    record(user, "choose reference", choice, cohort_id=cohort.pk)
    return next(r for r in references_of_cohort(user, cohort) if (r.version.pk, r.measured) == (version_id, measured))
