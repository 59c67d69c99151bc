"""The set index gives the answer of comparing with everybody, after any history of updates, and refuses a damaged folder."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.transport import cascade, segment
from ml.transport.cascade import first_stage, prepared, second_stage
from ml.transport.errors import TransportError
from ml.transport.index import SetIndex
from ml.transport.wasserstein import wasserstein2
from ml.types import NicheSet

# where many small indexes are built: syncing files to a disk takes longer than everything else
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def niche_set(rng, k, dim, centre=0.0, decimals=None, scale=1.0):
    vectors = (rng.normal(size=(k, dim)) + centre) * scale
    if decimals is not None:
        vectors = np.round(vectors, decimals)
    weights = np.full(k, 1 / k) if rng.random() < 0.4 else rng.dirichlet(np.ones(k))
    return NicheSet(vectors.astype(np.float32), weights, np.zeros((k, 4)))


def by_brute_force(query, sets, k):
    distance = {number: wasserstein2(query.vectors, query.weights, one.vectors, one.weights) for number, one in sets.items()}
    return [(number, distance[number]) for number in sorted(distance, key=lambda number: (distance[number], number))[:k]]


@st.composite
def worlds(draw):
    """A query, sets by id (of unequal sizes, some twice, some equal to the query), ids that may be found, and k."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim, decimals = draw(st.integers(1, 6)), draw(st.sampled_from([0, 1, None]))
    offset, scale = draw(st.sampled_from([(0.0, 1.0), (1000.0, 1.0), (0.0, 1e-12), (5.0, 1e9)]))
    most = draw(st.sampled_from([1, 6, 20]))
    query = niche_set(rng, draw(st.integers(1, most)), dim, offset, decimals, scale)
    centres = offset + rng.normal(size=(draw(st.integers(1, 30)), dim)) * draw(st.sampled_from([0.0, 0.5, 5.0]))
    sets = [niche_set(rng, int(rng.integers(1, most + 1)), dim, c, decimals, scale) for c in centres]
    sets += [sets[i] for i in rng.integers(0, len(sets), size=draw(st.integers(0, 5)))]
    if draw(st.booleans()):
        sets.append(query)
    ids = rng.choice(10**6, len(sets), replace=False) - 500
    allowed = None if draw(st.booleans()) else np.append(ids[rng.random(len(ids)) < draw(st.sampled_from([0.1, 0.5, 1.0]))], 7_777_777)
    return (
        query,
        dict(zip(ids.tolist(), sets, strict=True)),
        allowed,
        draw(st.integers(1, len(sets) + 2)),
        draw(st.sampled_from([1, 3, 64])),
    )


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_answer_is_that_of_brute_force(world):
    query, sets, allowed, k, components = world
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        index = SetIndex.build(Path(place) / "a", sets.items(), stamp="1", components=components)
        found = index.top_k(query, k, allowed=allowed)
    wanted = sets if allowed is None else {number: one for number, one in sets.items() if number in set(allowed.tolist())}
    assert list(found.hits) == by_brute_force(query, wanted, k)
    assert found.n_candidates == len(wanted) and index.ids.tolist() == sorted(sets)
    assert min(k, len(wanted)) <= found.n_fully_compared <= found.n_after_first_stage <= len(wanted)


def test_the_answer_is_exact_where_all_distances_are_alike(tmp_path):
    """The order of the bounds is not that of the distances there: stopping a little early would lose hits."""
    rng = np.random.default_rng(3)
    sets = {i: NicheSet(rng.normal(size=(8, 40)).astype(np.float32), np.full(8, 1 / 8), np.zeros((8, 4))) for i in range(400)}
    index = SetIndex.build(tmp_path / "a", sets.items(), stamp="1", components=20)
    for number in range(6):
        found = index.top_k(sets[number], 15)
        assert list(found.hits) == by_brute_force(sets[number], sets, 15)
        assert found.n_fully_compared < 100


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_no_distance_is_below_a_bound_of_either_stage(world):
    query, sets, _, _, components = world
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        index = SetIndex.build(Path(place) / "a", sets.items(), stamp="1", components=components)
        one, asked = index.segments[0], prepared(query, index.frame)
        coarse, gap = first_stage(one, asked, np.ones(len(one), bool))
        full = gap + second_stage(one, asked, index.frame, np.arange(len(one)))
        numbers = one.ids.tolist()
    for number, lower, better in zip(numbers, coarse, full, strict=True):
        true = wasserstein2(query.vectors, query.weights, sets[number].vectors, sets[number].weights) ** 2
        assert max(lower, better) <= true * (1 + 1e-12)


def test_float32_bounds_hold_where_they_are_exact_up_to_rounding():
    """Sets of one niche: the bound is the distance itself, so that only the allowance for rounding keeps it below."""
    rng = np.random.default_rng(0)
    query = niche_set(rng, 1, 300, centre=3.0)
    sets = {i: niche_set(rng, 1, 300, centre=3.0) for i in range(3000)}
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        index = SetIndex.build(Path(place) / "a", sets.items(), stamp="1")
        coarse, _ = first_stage(index.segments[0], prepared(query, index.frame), np.ones(3000, bool))
    true = np.array([wasserstein2(query.vectors, query.weights, s.vectors, s.weights) ** 2 for s in sets.values()])
    assert (coarse <= true).all() and (coarse >= true * 0.999).all()


@st.composite
def histories(draw):
    """Steps of (added, removed) on a first set of sets."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number = iter(range(10_000))
    fresh = lambda n: [(next(number), niche_set(rng, int(rng.integers(1, 5)), 3, decimals=1)) for _ in range(n)]  # noqa: E731
    first, steps, present = fresh(draw(st.integers(0, 25))), [], set()
    present |= {i for i, _ in first}
    for _ in range(draw(st.integers(1, 5))):
        removed = {i for i in sorted(present) if rng.random() < draw(st.sampled_from([0.0, 0.1, 1.0]))}
        added = fresh(draw(st.integers(0, 8)))
        if removed and draw(st.booleans()):  # replaced: the same id with another set
            added.append((min(removed), niche_set(rng, 2, 3, decimals=1)))
        steps.append((added, removed))
        present = (present - removed) | {i for i, _ in added}
    return first, steps, niche_set(rng, 3, 3, decimals=1)


@settings(max_examples=25, deadline=None)
@given(histories())
def test_an_updated_index_answers_as_one_built_anew(history):
    first, steps, query = history
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        index, sets = SetIndex.build(Path(place) / "0", first, stamp="0", components=2), dict(first)
        for step, (added, removed) in enumerate(steps, 1):
            index = index.updated(Path(place) / str(step), added=added, removed=removed, stamp=str(step))
            shutil.rmtree(Path(place) / str(step - 1))  # an index stands on its own
            sets = {i: s for i, s in sets.items() if i not in removed} | dict(added)
            assert index.ids.tolist() == sorted(sets) and len(index) == len(sets) and index.stamp == str(step)
            index.verify()
            for k in (1, 4, 50):
                assert list(index.top_k(query, k).hits) == by_brute_force(query, sets, k)


def cohort(n, seed=0, dim=8, first=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return [(first + i, niche_set(rng, int(rng.integers(1, 9)), dim, rng.normal(size=dim) * 3 + shift)) for i in range(n)]


def test_far_sets_are_left_out_early_and_the_counts_say_so(tmp_path):
    rng = np.random.default_rng(1)
    sets = cohort(2000) + [(5000 + i, niche_set(rng, 6, 8, 40.0)) for i in range(30)]
    found = SetIndex.build(tmp_path / "a", sets, stamp="1").top_k(niche_set(rng, 6, 8, 40.0), 5)
    assert found.n_candidates == 2030
    assert found.n_after_first_stage <= 64 and found.n_fully_compared <= 15
    assert all(hit.candidate >= 5000 for hit in found.hits)


def test_blocks_of_any_size_give_the_same_bounds(tmp_path, monkeypatch):
    sets, query = cohort(60), cohort(1, seed=9)[0][1]
    bounds = []
    for points, chunk, sparse in ((8192, 1024, 0.5), (1, 1, 0.0), (20, 16, 1.0)):
        monkeypatch.setattr(segment, "BLOCK_POINTS", points)
        monkeypatch.setattr(cascade, "CHUNK_SLOTS", chunk)
        monkeypatch.setattr(cascade, "SPARSE", sparse)
        index = SetIndex.build(tmp_path / str(points), sets, stamp="1", components=3)
        wanted = np.arange(60) % 3 != 0
        coarse, _ = first_stage(index.segments[0], prepared(query, index.frame), wanted)
        full = second_stage(index.segments[0], prepared(query, index.frame), index.frame, np.flatnonzero(wanted))
        assert np.isinf(coarse[~wanted]).all()
        bounds.append(np.concatenate([coarse[wanted], full]))
    # a block's largest set enters the allowance for rounding, so the bounds agree to its size
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-4, abs=1e-3) and bounds[2] == pytest.approx(bounds[0], rel=1e-4, abs=1e-3)


def test_small_updates_link_what_is_there_and_large_ones_fit_again(tmp_path):
    index = SetIndex.build(tmp_path / "0", cohort(400), stamp="0", components=3)
    assert index.refitted == "new"
    added = index.updated(tmp_path / "1", added=cohort(3, 1, first=1000), removed=[5], stamp="1")
    assert added.refitted == "" and [len(s) for s in added.segments] == [400, 3] and len(added) == 402
    linked = [os.stat(tmp_path / folder / "000-points.npy").st_ino for folder in "01"]
    assert linked[0] == linked[1]
    # a segment takes over those that are not larger
    third = added.updated(tmp_path / "2", added=cohort(4, 2, first=2000), removed=[], stamp="2")
    assert [len(s) for s in third.segments] == [400, 7]
    assert third.updated(tmp_path / "3", added=[], removed=range(6, 120), stamp="3").refitted == "many sets removed"
    assert third.updated(tmp_path / "4", added=cohort(450, 3, first=3000), removed=[], stamp="4").refitted == "few sets at the last fit"
    rng = np.random.default_rng(4)
    along, across = np.array([20, 1, 1, 1, 1, 1, 1, 1], np.float32), np.array([1, 30, 1, 1, 1, 1, 1, 1])
    narrow = SetIndex.build(
        tmp_path / "5", [(i, NicheSet(s.vectors * along, s.weights, s.boxes)) for i, s in cohort(200, 5)], stamp="5", components=1
    )
    turned = NicheSet((rng.normal(size=(8, 8)) * across).astype(np.float32), np.full(8, 1 / 8), np.zeros((8, 4)))
    assert narrow.updated(tmp_path / "6", added=[(900, turned)], removed=[], stamp="6").refitted == "the axes had drifted"
    assert every_file(tmp_path / "6") == every_file(tmp_path / "5")  # nothing of the first attempt is left


def test_the_old_index_stays_as_it_was(tmp_path):
    sets, query = cohort(50), cohort(1, seed=9)[0][1]
    index = SetIndex.build(tmp_path / "0", sets, stamp="0")
    before = index.top_k(query, 5)
    index.updated(tmp_path / "1", added=[(999, query)], removed=[hit.candidate for hit in before.hits], stamp="1")
    assert index.top_k(query, 5) == before and SetIndex.open(tmp_path / "0").top_k(query, 5) == before
    assert SetIndex.open(tmp_path / "1").top_k(query, 1).hits[0] == (999, 0.0)


def test_an_index_of_nobody_is_an_index(tmp_path):
    empty = SetIndex.build(tmp_path / "0", [], stamp="0")
    assert (len(empty), empty.dim, empty.top_k(cohort(1)[0][1], 3).hits) == (0, 0, ())
    filled = empty.updated(tmp_path / "1", added=cohort(3), removed=[], stamp="1")
    assert len(filled) == 3 and filled.dim == 8
    gone = filled.updated(tmp_path / "2", added=[], removed=[0, 1, 2], stamp="2")
    assert len(gone) == 0 and gone.top_k(cohort(1)[0][1], 3).hits == ()
    assert filled.top_k(cohort(1)[0][1], 3, allowed=np.array([], np.int64)).hits == ()


def bad(vectors, weights):
    return NicheSet(np.asarray(vectors), np.asarray(weights, float), np.zeros((len(weights), 4)))


@pytest.mark.parametrize(
    "wrong, code",
    [
        (bad(np.full((1, 8), np.nan, np.float32), [1]), "not_finite"),
        (bad(np.zeros((2, 8), np.float32), [1.5, -0.5]), "negative_weight"),
        (bad(np.zeros((1, 8), np.float32), [0.5]), "weight_sum"),
        (bad(np.zeros((1, 7), np.float32), [1]), "dimension"),
        (bad(np.zeros((0, 8), np.float32), []), "empty"),
        (bad(np.full((1, 8), 1e16, np.float32), [1]), "out_of_range"),
        (bad(np.full((1, 8), 0.1), [1]), "precision"),
        (bad(np.zeros((257, 8), np.float32), np.full(257, 1 / 257)), "too_many_niches"),
        (cohort(1)[0][1], "duplicate_id"),
    ],
)
def test_a_wrong_set_is_named_and_leaves_no_index(tmp_path, wrong, code):
    number = 2 if code == "duplicate_id" else 77
    with pytest.raises(TransportError) as refused:
        SetIndex.build(tmp_path / "a", [*cohort(4), (number, wrong)], stamp="1")
    assert (refused.value.code, refused.value.where) == (code, f"set {number}")
    assert list((tmp_path / "a").iterdir()) == []
    assert len(SetIndex.build(tmp_path / "a", cohort(4), stamp="1")) == 4  # and the folder can be used
    with pytest.raises(TransportError) as refused:
        SetIndex.open(tmp_path / "a").updated(tmp_path / "b", added=[(number, wrong)], removed=[], stamp="2")
    assert refused.value.code == code and not (tmp_path / "b" / "header.json").exists()


def test_what_cannot_be_asked_is_refused(tmp_path):
    index = SetIndex.build(tmp_path / "a", cohort(4), stamp="1")
    query = cohort(1)[0][1]
    for ask, code in (
        (lambda: index.top_k(query, 0), "k"),
        (lambda: index.top_k(bad(np.zeros((1, 3), np.float32), [1]), 1), "dimension"),
        (lambda: index.top_k(bad(np.full((1, 8), 1e16, np.float32), [1]), 1), "out_of_range"),
        (lambda: SetIndex.build(tmp_path / "a", cohort(4), stamp="1"), "index_exists"),
        (lambda: SetIndex.build(tmp_path / "b", cohort(4), stamp="1", components=0), "components"),
        (lambda: index.updated(tmp_path / "c", added=[], removed=[99], stamp="2"), "unknown_id"),
        (lambda: index.updated(tmp_path / "a", added=[], removed=[1], stamp="2"), "index_exists"),
        (lambda: SetIndex.open(tmp_path / "nowhere"), "index_missing"),
    ):
        with pytest.raises(TransportError) as refused:
            ask()
        assert refused.value.code == code
        assert refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")


def every_file(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_damaged_file_is_found(tmp_path):
    whole = tmp_path / "whole"
    SetIndex.build(whole, cohort(40), stamp="1").updated(tmp_path / "two", added=cohort(3, 1, first=100), removed=[2], stamp="2")
    whole = tmp_path / "two"
    for name in every_file(whole):
        for damage in ("gone", "short", "bits"):
            copy = tmp_path / "copy"
            shutil.copytree(whole, copy)
            path = copy / name
            content = path.read_bytes()
            if damage == "gone":
                path.unlink()
            else:
                flipped = content[:-3] + bytes([content[-3] ^ 64]) + content[-2:]
                path.write_bytes(content[:-5] if damage == "short" else flipped)
            with pytest.raises(TransportError) as refused:
                SetIndex.open(copy)
            assert refused.value.code == ("index_missing" if (name, damage) == ("header.json", "gone") else "index_broken"), (name, damage)
            shutil.rmtree(copy)


def test_headers_of_another_version_or_shape_are_refused(tmp_path):
    SetIndex.build(tmp_path / "a", cohort(5), stamp="1")
    path = tmp_path / "a" / "header.json"
    header = json.loads(path.read_text())
    for change, code in (
        ({"format": "tissueboard set index 0"}, "index_version"),
        ({"segments": None}, "index_broken"),
        ({"segments": header["segments"] * 2}, "index_broken"),
        ({"segments": []}, "index_broken"),
        ({"frame": {"files": {}}}, "index_broken"),
        ({"frame": None}, "index_broken"),
    ):
        path.write_text(json.dumps(header | change))
        with pytest.raises(TransportError) as refused:
            SetIndex.open(tmp_path / "a")
        assert refused.value.code == code
    path.write_text("[]")
    with pytest.raises(TransportError) as refused:
        SetIndex.open(tmp_path / "a")
    assert refused.value.code == "index_broken"


def test_large_files_are_verified_on_demand(tmp_path, monkeypatch):
    index = SetIndex.build(tmp_path / "a", cohort(5), stamp="1")
    monkeypatch.setattr("ml.transport.store.CHECKED_AT_OPEN", 0)
    path = tmp_path / "a" / "000-points.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    SetIndex.open(tmp_path / "a")
    with pytest.raises(TransportError) as refused:
        index.verify()
    assert (refused.value.code, refused.value.where) == ("index_broken", "000-points.npy")


def test_an_interrupted_build_leaves_no_index_and_can_be_repeated(tmp_path):
    def interrupted():
        yield from cohort(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SetIndex.build(tmp_path / "a", interrupted(), stamp="1")
    with pytest.raises(TransportError) as refused:
        SetIndex.open(tmp_path / "a")
    assert refused.value.code == "index_missing"
    assert SetIndex.build(tmp_path / "a", cohort(5), stamp="1").ids.tolist() == [0, 1, 2, 3, 4]
