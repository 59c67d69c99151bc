"""The exact nearest tissues among candidates: from the set index where it is fresh, from Postgres where it is not, merged."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from ml.types import NicheSet
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion

from .indexing import FEWEST_SETS, OpenIndex, open_index
from .selectors import Candidates, read_sets

BLOCK = 2_000


@dataclass(frozen=True)
class Ranked:
    """nearest: (prediction id, distance), nearest first, one per person. n_fully_compared: tissues whose transport was solved.

    n_indexed: candidates that the index answered for; the others were read from Postgres.
    """

    nearest: list[tuple[int, float]]
    n_fully_compared: int
    n_indexed: int


def rank(query: NicheSet, version: ModelVersion, found: Candidates, k: int) -> Ranked:
    """The nearest tissues of k different persons. Raises TissueboardError where a stored set cannot be compared."""
    from ml.transport.errors import TransportError

    index = open_index(version) if len(found) >= FEWEST_SETS else None
    known = [i for i, r in zip(found.ids, found.revisions) if index is not None and index.revisions.get(i) == r]
    fresh = set(known)
    search = _Search(query, index, known, [i for i in found.ids if i not in fresh])
    person = dict(zip(found.ids, found.persons))
    wanted = min(len(found), 2 * k)
    try:
        while True:
            hits, compared = search.top(wanted)
            best: dict[str, tuple[int, float]] = {}
            for pk, distance in hits:
                best.setdefault(person[pk], (pk, distance))
            # Several of the nearest may be one person's: ask for more until k persons are among them.
            if len(best) >= k or wanted == len(found):
                return Ranked(list(best.values())[:k], compared, len(known))
            wanted = min(len(found), wanted * 2)
    except TransportError as error:
        raise TissueboardError(error.code.upper(), error.sentence, error.hint, where=error.where, status=409) from error


class _Search:
    """One query against an index and the sets that it does not hold; the latter are kept where they are few."""

    def __init__(self, query: NicheSet, index: OpenIndex | None, known: list[int], late: list[int]) -> None:
        self.query, self.index, self.known, self.late = query, index, known, late
        self.kept = read_sets(late) if len(late) <= BLOCK else None

    def top(self, wanted: int) -> tuple[list[tuple[int, float]], int]:
        """(the `wanted` nearest as (id, distance), how many were fully compared); of equal distances the older set comes first."""
        hits: list[tuple[float, int]] = []
        compared = 0
        if self.index is not None and self.known:
            import numpy as np

            top = self.index.sets.top_k(self.query, wanted, allowed=np.array(self.known, np.int64))
            hits += [(float(distance), int(pk)) for pk, distance in top.hits]
            compared += top.n_fully_compared
        for start in range(0, len(self.late), BLOCK):
            part = self.kept if self.kept is not None else read_sets(self.late[start : start + BLOCK])
            more, n = self._straight(part, wanted)
            hits = heapq.nsmallest(wanted, hits + more)
            compared += n
        return [(pk, distance) for distance, pk in heapq.nsmallest(wanted, hits)], compared

    def _straight(self, sets: dict[int, NicheSet], wanted: int) -> tuple[list[tuple[float, int]], int]:
        from ml.transport.retrieval import exact_top_k

        ids = list(sets)
        top = exact_top_k(self.query, list(sets.values()), wanted)
        return [(float(distance), ids[place]) for place, distance in top.hits], top.n_fully_compared
