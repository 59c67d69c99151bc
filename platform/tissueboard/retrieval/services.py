"""Similar cases: exact 2-Wasserstein between the retrieval sets of tissues, among what the user may see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide

from .describing import BoxPair, Hit, MarkerDifference, describe
from .errors import RetrievalCode
from .ranking import Ranked, rank
from .references import Reference, choose
from .selectors import Candidates, Filters, candidates, niche_set_of, niches_of, read_sets
from .tissues import Tissue, is_measured, site_of

__all__ = ["MAX_K", "BoxPair", "Filters", "Hit", "MarkerDifference", "SimilarCases", "similar_cases"]
MAX_K = 50
# The share of the same site is told of so many, whatever k is (DESIGNS 9, Site).
SITE_TOP = 10


@dataclass(frozen=True)
class SimilarCases:
    """The answer with what it stands on.

    references: all that this tissue could be compared in; reference: the one that was searched, with its coverage. n_indexed: candidates
    that the set index answered for. same_site_share: of the site_n nearest (at most 10); same_site_expected: share among all candidates.
    """

    query: Tissue
    reference: Reference | None
    n_candidates: int = 0
    n_fully_compared: int = 0
    n_indexed: int = 0
    hits: list[Hit] = field(default_factory=list)
    same_site_share: float | None = None
    same_site_expected: float | None = None
    site_n: int = 0
    note: str = ""
    references: list[Reference] = field(default_factory=list)
    niche_set: Any = None

    @property
    def version(self) -> ModelVersion | None:
        return self.reference.version if self.reference else None

    @property
    def query_slide(self) -> Slide | None:
        return self.query if isinstance(self.query, Slide) else None

    @property
    def query_image(self) -> Any:
        return None if isinstance(self.query, Slide) else self.query


def similar_cases(
    user: Any,
    tissue: Tissue,
    k: int = 5,
    *,
    cohort: Any = None,
    other_sites_only: bool = False,
    filters: Filters | None = None,
    version_id: int | None = None,
) -> SimilarCases:
    """The k nearest tissues of other patients, one per patient, among the cohorts that the user may see.

    tissue: a slide or a multiplex image, with sample and patient. filters: what the candidates must have (cohort and other_sites_only are
    two of them). version_id: the reference to search; None: the one in use in the patient's cohort.
    Raises TissueboardError: K_OUT_OF_RANGE (k outside 1..50), REFERENCE_UNKNOWN. Without a niche set the answer has no hits and a note.
    """
    if not 1 <= k <= MAX_K:
        raise TissueboardError(RetrievalCode.K_OUT_OF_RANGE, f"k is {k}; it must be 1 to {MAX_K}.", "Ask for fewer cases.", where="k")
    filters = filters or Filters(cohort=cohort, other_sites_only=other_sites_only)
    patient = tissue.sample.patient
    record(user, "search similar cases", tissue, cohort_id=patient.cohort_id, patient_code=patient.code)
    reference, offered = choose(user, tissue, version_id)
    niche_set = niche_set_of(user, tissue, reference.version) if reference else None
    own = niches_of(user, niche_set) if niche_set else []
    if reference is None or niche_set is None or not own:
        what = "image" if is_measured(tissue) else "slide"
        return SimilarCases(tissue, None, note=f"This {what} has no niches yet; run the case pipeline.", references=offered)
    found = candidates(user, reference.version, tissue, filters)
    if not len(found):
        return SimilarCases(tissue, reference, note=_nobody(tissue, filters), references=offered, niche_set=niche_set)
    query = read_sets([niche_set.pk])[niche_set.pk]
    ranked = rank(query, reference.version, found, max(k, SITE_TOP))
    share, expected, site_n = _same_site(tissue, found, ranked)
    return SimilarCases(
        query=tissue,
        reference=reference,
        n_candidates=len(found),
        n_fully_compared=ranked.n_fully_compared,
        n_indexed=ranked.n_indexed,
        hits=describe(tissue, reference, own, query, ranked.nearest[:k]),
        same_site_share=share,
        same_site_expected=expected,
        site_n=site_n,
        references=offered,
        niche_set=niche_set,
    )


def _nobody(tissue: Tissue, filters: Filters) -> str:
    kind = "simulated" if tissue.simulated else "real"
    if filters:
        return f"No other patient with {kind} tissue in your cohorts passes these filters."
    return f"No other patient with {kind} tissue in your cohorts has niches of this version."


def _same_site(tissue: Tissue, found: Candidates, ranked: Ranked) -> tuple[float | None, float | None, int]:
    """(share of the ten nearest from the query's site, share of all candidates, how many the ten are); None where the site is unknown."""
    site = site_of(tissue)
    if not site:
        return None, None, 0
    of = dict(zip(found.ids, found.sites))
    top = [of[pk] == site for pk, _ in ranked.nearest[:SITE_TOP]]
    return sum(top) / len(top) if top else None, sum(s == site for s in found.sites) / len(found), len(top)
