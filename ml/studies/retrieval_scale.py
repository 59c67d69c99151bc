"""Similar tissues among many: `python -m ml.studies.retrieval_scale [compute|write] [--out FOLDER] [--quick]`; without a name both.

Each cell (a kind of tissues and their number) is one JSON file in FOLDER and is computed once: a stopped run goes on where it was.
`write` puts the section between the scale marks of docs/results/retrieval.md. --quick: very small, kept apart, no section.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.studies.cells import ROOT, Cells, study_folder
from ml.transport.index import SetIndex
from ml.transport.retrieval import TopK
from ml.transport.wasserstein import _pot
from ml.types import NicheSet

PARTS = ("compute", "write")
REPORT = ROOT / "docs" / "results" / "retrieval.md"
DIM, NICHES, K, TYPES, PER_PATIENT = 512, 16, 10, 40, 2


@dataclass(frozen=True)
class Tissues:
    """How tissues are drawn. noise: spread of niches of one type, offset: of patients, both relative to that between niche types (1).

    even: all 512 directions vary alike; else the standard deviation of the r-th falls as r^-1/2, as in embeddings. types: 0 draws each
    niche by itself. weighted: 4 to 16 niches with Dirichlet weights in place of 16 alike.
    """

    title: str
    noise: float
    offset: float
    even: bool = False
    types: int = TYPES
    weighted: bool = False


KINDS = {
    "tissues": Tissues("mixtures of 40 niche types, patient offsets, spectrum as in embeddings", 0.6, 0.4),
    "weighted": Tissues("the same, 4 to 16 niches of unequal weight", 0.6, 0.4, weighted=True),
    "even": Tissues("mixtures of 40 niche types, noise alike in all directions", 0.5, 0.3, even=True),
    "unstructured": Tissues("every niche drawn by itself, alike in all directions (hard)", 1.0, 0.0, even=True, types=0),
}


class World:
    """Tissues by number; number // PER_PATIENT is the patient. Every one is drawn by itself, so that none need be kept."""

    def __init__(self, kind: Tissues, seed: int) -> None:
        self.kind, self.seed = kind, seed
        spread = np.ones(DIM) if kind.even else np.arange(1, DIM + 1) ** -0.5
        self.spread = (spread * np.sqrt(DIM / (spread**2).sum())).astype(np.float32)
        self.types = np.random.default_rng((seed, 0)).standard_normal((max(kind.types, 1), DIM), np.float32) * self.spread

    def tissue(self, number: int) -> NicheSet:
        """One tissue of 512-d niches."""
        rng = np.random.default_rng((self.seed, 1, number))
        k = int(rng.integers(4, NICHES + 1)) if self.kind.weighted else NICHES
        vectors = rng.standard_normal((k, DIM), np.float32) * self.spread * np.float32(self.kind.noise)
        if self.kind.types:
            vectors += self.types[rng.choice(self.kind.types, k, p=rng.dirichlet(np.full(self.kind.types, 0.1)))]
        if self.kind.offset:
            patient = np.random.default_rng((self.seed, 2, number // PER_PATIENT)).standard_normal(DIM, np.float32)
            vectors += patient * self.spread * np.float32(self.kind.offset)
        weights = rng.dirichlet(np.full(k, 2.0)) if self.kind.weighted else np.full(k, 1 / k)
        return NicheSet(vectors, weights, np.zeros((k, 4)))

    def tissues(self, first: int, last: int) -> Iterator[tuple[int, NicheSet]]:
        """(number, tissue) of a range."""
        return ((number, self.tissue(number)) for number in range(first, last))


class Timed(NamedTuple):
    """An answer with seconds by the clock and of the processor."""

    answer: Any
    seconds: float
    cpu: float


def timed(work: Any) -> Timed:
    """Calls it."""
    start, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return Timed(answer, time.perf_counter() - start, time.process_time() - cpu)


def loop_of_pot(index: SetIndex, query: NicheSet, allowed: NDArray[np.int64], k: int) -> list[tuple[int, float]]:
    """(id, distance) of the k nearest by POT's emd2 for one set after the other, equal distances by id."""
    ot, x, a, wanted = _pot(), query.vectors.astype(np.float64), query.weights / query.weights.sum(), set(allowed.tolist())
    ids, costs = [], []
    for segment, live in zip(index.segments, index.live, strict=True):
        for row in np.flatnonzero(live).tolist():
            if (number := int(segment.ids[row])) in wanted:
                vectors, weights = segment.of(row)
                ids.append(number)
                costs.append(ot.emd2(a, weights / weights.sum(), ot.dist(x, vectors.astype(np.float64))))
    distance = np.sqrt(np.maximum(costs, 0))
    order = np.lexsort((ids, distance))[:k]
    return [(ids[o], float(distance[o])) for o in order]


def compared(index: SetIndex, query: NicheSet, allowed: NDArray[np.int64], k: int = K) -> dict[str, Any]:
    """One query by the index (the second of two calls: pages are in memory then, as they are for the loop) and by the loop."""
    first = timed(lambda: index.top_k(query, k, allowed=allowed))
    ours, theirs = timed(lambda: index.top_k(query, k, allowed=allowed)), timed(lambda: loop_of_pot(index, query, allowed, k))
    found: TopK = ours.answer
    apart = [abs(hit.distance - d) for hit, (_, d) in zip(found.hits, theirs.answer, strict=True)]
    return {
        "first": first.seconds,
        "ours": ours.seconds,
        "ours_cpu": ours.cpu,
        "theirs": theirs.seconds,
        "theirs_cpu": theirs.cpu,
        "same": [hit.candidate for hit in found.hits] == [number for number, _ in theirs.answer],
        "apart": max(apart),
        "searched": found.n_candidates,
        "after_first": found.n_after_first_stage,
        "transported": found.n_fully_compared,
    }


def others(index: SetIndex, number: int) -> NDArray[np.int64]:
    """Ids of tissues of other patients."""
    return index.ids[index.ids // PER_PATIENT != number // PER_PATIENT]


@dataclass(frozen=True)
class Size:
    """cells: kind and number of tissues. queries: how many are compared with the loop, at most; added: tissues of the update."""

    cells: tuple[tuple[str, int, int], ...] = (
        ("tissues", 20_000, 5),
        ("weighted", 20_000, 5),
        ("even", 20_000, 5),
        ("unstructured", 20_000, 3),
        ("tissues", 100_000, 3),
        ("unstructured", 100_000, 2),
    )
    added: int = 100


QUICK = Size((("tissues", 400, 2), ("unstructured", 300, 1)), 10)


def measure(folder: Path, kind: Tissues, n: int, queries: int, added: int, seed: int = 0) -> dict[str, Any]:
    """One cell. Queries are every tissue of a patient whose other tissue is in the index, which is left out of the search."""
    shutil.rmtree(folder, ignore_errors=True)
    _pot()  # imported before anything is timed
    world = World(kind, seed)
    drawn = timed(lambda: sum(1 for _ in world.tissues(0, n)))
    built = timed(lambda: SetIndex.build(folder / "a", world.tissues(0, n), stamp="a"))
    index: SetIndex = built.answer
    sizes = {p.name.split("-")[-1].removesuffix(".npy"): p.stat().st_size for p in (folder / "a").glob("*.npy")}
    opened = timed(lambda: SetIndex.open(folder / "a"))
    places = np.linspace(0, n - 1, queries).astype(int).tolist()
    asked = [compared(index, world.tissue(number), others(index, number)) for number in places]
    new, gone = list(world.tissues(n, n + added)), index.ids[:: max(1, n // added)][:added]
    changed = timed(lambda: index.updated(folder / "b", added=new, removed=gone.tolist(), stamp="b"))
    later: SetIndex = changed.answer
    written = sum(p.stat().st_size for p in (folder / "b").iterdir() if p.stat().st_nlink == 1)
    after = compared(later, new[0][1], others(later, new[0][0]))
    shutil.rmtree(folder)
    return {
        "queries": asked,
        "build": built.seconds - drawn.seconds,
        "build_cpu": built.cpu - drawn.cpu,
        "open": opened.seconds,
        "bytes": sum(sizes.values()),
        "points_bytes": sizes["points"],
        "left_out": index.frame.left_out if index.frame else None,
        "update": changed.seconds,
        "update_cpu": changed.cpu,
        "update_bytes": written,
        "refitted": later.refitted,
        "after_update": after,
    }


def run(cells: Cells, size: Size) -> None:
    """Computes what is missing."""
    work = cells.folder / "index"
    for name, n, queries in size.cells:
        settings = {"tissues": asdict(KINDS[name]), "dim": DIM, "niches": NICHES, "k": K, "queries": queries, "added": size.added, "rev": 1}
        task = partial(measure, work, KINDS[name], n, queries, size.added)
        cells.get({"task": "scale", "kind": name, "n": n}, settings, task)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m ml.studies.retrieval_scale", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part; default: both")
    parser.add_argument("--out", type=Path, help="folder of the cells; the largest index takes 4 GB there for a while")
    parser.add_argument("--quick", action="store_true", help="small, kept apart, no section")
    given = parser.parse_args(arguments)
    wanted = PARTS if given.part is None else (given.part,)
    cells = Cells(given.out or study_folder("retrieval-scale", given.quick))
    if "compute" in wanted:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            run(cells, QUICK if given.quick else Size())
    if "write" in wanted and not given.quick:
        from ml.studies.retrieval_scale_report import put, section

        put(REPORT, section(cells.all()))
        print(f"Written: {REPORT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
