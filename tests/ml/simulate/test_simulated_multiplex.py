"""A simulated multiplex image counts what its cells carry; the laboratory changes no cell, and biology no gain."""

import csv

import numpy as np
import pytest
import tifffile
from scipy.ndimage import binary_erosion
from scipy.stats import chi2_contingency

from ml.multiplex.convert import check_multiplex
from ml.multiplex.files import open_multiplex
from ml.simulate import CELL_TYPES, NICHES
from ml.simulate.multiplex import MultiplexConfig, choose_fields, crop_tissue, simulate_multiplex
from ml.simulate.multiplex_assay import assay_law
from ml.simulate.multiplex_cohort import DIAGNOSES, CohortConfig, assign, multiplex_patient, simulate_multiplex_cohort, stain_site
from ml.simulate.multiplex_files import write_multiplex
from ml.simulate.multiplex_panel import MARKERS, PANELS, panel_markers
from ml.simulate.multiplex_truth import central_boxes, colour_histogram, kept_boxes, majority_niches, true_distance, true_niches

SMALL = MultiplexConfig(size_px=256)
COHORT = CohortConfig(image=SMALL, tissues=(2, 2), panels=("broad", "stroma"))


@pytest.fixture(scope="module")
def images():
    return [simulate_multiplex(SMALL, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def patients():
    return list(simulate_multiplex_cohort(6, 3, seed=2, config=COHORT))


# --- panels


def test_panels_overlap_and_every_marker_has_an_accession():
    sizes = {name: len(markers) for name, markers in PANELS.items()}
    assert all(12 <= n <= 20 for n in sizes.values())
    shared = set.intersection(*(set(markers) for markers in PANELS.values()))
    assert len(shared) >= 6 and all(set(markers) - shared for markers in PANELS.values())
    assert all(len(set(markers)) == len(markers) for markers in PANELS.values())
    assert len({m.uniprot for m in MARKERS.values()}) == len(MARKERS)
    assert all(m.uniprot.split("-")[0].isalnum() and len(m.uniprot.split("-")[0]) == 6 for m in MARKERS.values())
    with pytest.raises(KeyError, match="broad, lymphoid, stroma"):
        panel_markers("mine")


# --- image


def test_an_image_is_counts_with_the_mask_and_table_of_its_cells(images):
    for m in images:
        assert m.image.shape == (20, 256, 256) and m.image.dtype == np.float32
        assert (m.image >= 0).all() and (m.image == np.rint(m.image)).all()
        assert m.names == PANELS["broad"] and m.mask.dtype == np.int32 and m.mask.shape == (256, 256)
        ids = np.unique(m.mask)[1:]
        assert np.array_equal(ids, m.cells.id) and (np.diff(ids) > 1).any() and len(ids) > 100
        assert m.niche_map.shape == m.tissue_mask.shape == (256, 256)
        assert sum(m.composition.values()) == pytest.approx(1) and set(m.composition) == set(NICHES[1:])


def test_a_centroid_is_that_of_the_cells_pixels(images):
    m = images[0]
    for k in (0, len(m.cells) // 2, len(m.cells) - 1):
        rows, cols = np.nonzero(m.mask == m.cells.id[k])
        assert m.cells.x_um[k] == pytest.approx(cols.mean() + 0.5, abs=0.01)
        assert m.cells.y_um[k] == pytest.approx(rows.mean() + 0.5, abs=0.01)


def test_ids_say_nothing_of_the_place(images):
    assert abs(np.corrcoef(images[0].cells.id, images[0].cells.y_um)[0, 1]) < 0.25


def cell_means(m):
    index = np.searchsorted(m.cells.id, m.mask[m.mask > 0])
    area = np.bincount(index)
    return np.stack([np.bincount(index, channel[m.mask > 0]) / area for channel in m.image], 1)


def test_cells_carry_the_markers_of_their_type(images):
    means, kinds = np.concatenate([cell_means(m) for m in images]), np.concatenate([m.cells.kind for m in images])
    for kind, marker, times in (
        ("tumour", "Pan-Cytokeratin", 4),
        ("myofibroblast", "aSMA", 4),
        ("cd8_t", "CD8a", 3),
        ("b_cell", "CD20", 3),
    ):
        column = means[:, images[0].names.index(marker)]
        of = kinds == CELL_TYPES.index(kind)
        assert of.sum() > 5 and column[of].mean() > times * np.median(column[~of]), (kind, marker)


def test_the_same_seed_gives_the_same_image_and_another_another(images):
    assert np.array_equal(simulate_multiplex(SMALL, 1).image, images[1].image)
    assert not np.array_equal(images[0].mask, images[1].mask)


def test_another_laboratory_panel_or_batch_changes_no_cell(images):
    one = images[1]
    other = simulate_multiplex(SMALL.model_copy(update={"site": 3, "batch": 1, "panel": "stroma"}), 1)
    assert np.array_equal(one.mask, other.mask) and np.array_equal(one.niche_map, other.niche_map)
    assert np.array_equal(one.cells.kind, other.cells.kind) and other.image.shape[0] == 14
    assert np.array_equal(true_niches(one), true_niches(other))


def test_a_laboratory_has_its_own_gains_whatever_the_tissue_panel_or_batch(images):
    def law(site, batch=0, panel="broad", seed=0):
        return assay_law(panel_markers(panel), site, batch, np.random.default_rng(seed), SMALL.pathologies)

    shared = [PANELS["broad"].index(name) for name in PANELS["stroma"] if name in PANELS["broad"]]
    there = [PANELS["stroma"].index(name) for name in PANELS["stroma"] if name in PANELS["broad"]]
    near = np.log(law(0).gain[shared]) - np.log(law(0, batch=1, panel="stroma", seed=9).gain[there])
    far = np.log(law(0).gain) - np.log(law(1).gain)
    assert near.std() < 0.3 < far.std()
    assert np.array_equal(law(0, batch=2).background, law(0).background) and not np.array_equal(law(1).background, law(0).background)
    assert (np.diag(law(0).spillover) == 1).all() and not np.array_equal(law(0).spillover, law(0, batch=1).spillover)


def test_spillover_and_gain_reach_the_counts():
    plain = MultiplexConfig(size_px=128, site_sd=0, batch_sd=0, image_sd=0, spillover=0, background=0, hot=0)
    clean, leaky = simulate_multiplex(plain, 0), simulate_multiplex(plain.model_copy(update={"spillover": 0.3}), 0)
    loud = clean.names.index("Pan-Cytokeratin")
    beside = clean.image[loud] > 8
    assert leaky.image[loud + 1][beside].mean() > clean.image[loud + 1][beside].mean() + 0.5
    glass = binary_erosion(~clean.tissue_mask, iterations=12)
    assert glass.any() and clean.image[:, glass].sum() == 0


# --- fields


def test_fields_do_not_overlap_and_a_field_is_the_tissue_at_its_place(patients):
    from ml.simulate import SimulatorConfig, simulate_tissue

    tissue = simulate_tissue(np.random.default_rng(4), SimulatorConfig(size_px=1024, mpp=1.0))
    corners = choose_fields(tissue, 256, 3, np.random.default_rng(0))
    assert len(corners) == 3
    assert all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= 256 for i, a in enumerate(corners) for b in corners[:i])
    (x, y), field = corners[0], crop_tissue(tissue, *corners[0], 256)
    left, top = int(x // 4), int(y // 4)
    assert np.array_equal(field.niche_map, tissue.niche_map[top : top + 64, left : left + 64])
    inside = (tissue.cells.x_um >= x) & (tissue.cells.x_um < x + 256) & (tissue.cells.y_um >= y) & (tissue.cells.y_um < y + 256)
    assert len(field.cells) == inside.sum() and np.array_equal(field.proteins, tissue.proteins[inside])
    with pytest.raises(ValueError, match="leaves a slide"):
        crop_tissue(tissue, 900.0, 0.0, 256)
    with pytest.raises(ValueError, match="multiples of 4"):
        crop_tissue(tissue, 2.0, 0.0, 256)


# --- truth


def test_boxes_lie_centrally_and_empty_ones_are_left_out():
    assert len(central_boxes((512, 512))) == len(central_boxes((900, 700))) == 16
    assert central_boxes((900, 512))[0].tolist() == [194, 0] and len(central_boxes((256, 300))) == 4
    with pytest.raises(ValueError, match="no box"):
        central_boxes((100, 512))
    mask = np.zeros((256, 256), bool)
    mask[:, :150] = True
    assert kept_boxes(mask).tolist() == [[0, 0], [128, 0]]
    assert len(kept_boxes(np.zeros((256, 256), bool))) == 4


def test_true_niches_count_cells_and_areas(images):
    m = images[0]
    vectors, boxes = true_niches(m), kept_boxes(m.tissue_mask)
    assert vectors.shape == (len(boxes), len(CELL_TYPES) + len(NICHES) - 1)
    r, c = boxes[0]
    area = m.niche_map[r : r + 128, c : c + 128]
    assert vectors[0, len(CELL_TYPES) :] == pytest.approx([(area == k).sum() / (area > 0).sum() for k in range(1, len(NICHES))])
    assert vectors[:, : len(CELL_TYPES)].sum(axis=1) == pytest.approx(1)


def test_true_distance_is_a_distance_of_biology(images):
    a, b, c = images[:3]
    assert true_distance(a, a) == 0 and true_distance(a, b) == pytest.approx(true_distance(b, a))
    assert 0 < true_distance(a, c) <= true_distance(a, b) + true_distance(b, c)
    elsewhere = simulate_multiplex(SMALL.model_copy(update={"site": 2, "panel": "lymphoid"}), 0)
    assert true_distance(a, elsewhere) == 0


def test_majority_niche_per_square(images):
    got = majority_niches(images[0], 8)
    assert got.shape == (32, 32)
    square = images[0].niche_map[80:88, 160:168]
    assert got[10, 20] == np.bincount(square.ravel()).argmax()


def test_a_histogram_of_colours_sums_to_one_and_tells_colours():
    red, blue = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    assert colour_histogram(red, 4).sum() == pytest.approx(1)
    assert np.flatnonzero(colour_histogram(red, 4)).tolist() == [48] and np.flatnonzero(colour_histogram(blue, 4)).tolist() == [3]


# --- cohort


def test_patients_do_not_depend_on_order_and_their_images_on_nothing_else(patients):
    alone = multiplex_patient(3, 2, COHORT.model_copy(update={"n_patients": 6}))
    assert alone.facts() == patients[3].facts()
    assert np.array_equal(alone.multiplex(1).image, patients[3].multiplex(1).image)
    assert not np.array_equal(alone.multiplex(0).mask, alone.multiplex(1).mask)


def test_another_number_of_sites_changes_no_biology(patients):
    for p, q in zip(patients, simulate_multiplex_cohort(6, 1, seed=2, config=COHORT)):
        assert q.facts()["site"] == "Site A"
        assert (p.clinical, p.fractions, p.outcome, p.responder) == (q.clinical, q.fractions, q.outcome, q.responder)
        assert np.array_equal(p.tissues[0].proteins, q.tissues[0].proteins)


def table(config, n=1500):
    rows = [assign(i, 5, config) for i in range(n)]
    kinds = list(DIAGNOSES)
    counts = np.zeros((len(kinds), config.n_sites))
    for a in rows:
        counts[kinds.index(a.diagnosis), a.site] += 1
    return rows, counts


def test_site_batch_and_panel_are_independent_of_diagnosis_unless_asked():
    config = CohortConfig(n_sites=3, panels=("broad", "stroma", "lymphoid"))
    rows, counts = table(config)
    assert chi2_contingency(counts).pvalue > 0.01 and (counts > 60).all()
    for field in ("batch", "panel"):
        values = sorted({getattr(a, field) for a in rows})
        by = np.array([[sum(a.diagnosis == d and getattr(a, field) == v for a in rows) for v in values] for d in DIAGNOSES])
        assert len(values) == 3 and chi2_contingency(by).pvalue > 0.01, field
    _, tied = table(CohortConfig(n_sites=3, confounding=0.6))
    assert chi2_contingency(tied).pvalue < 1e-20
    _, bound = table(CohortConfig(n_sites=4, confounding=1.0))
    assert (bound > 0).sum() == 4


def test_response_and_survival_follow_the_tissue_and_not_the_site():
    config = COHORT.model_copy(update={"image": MultiplexConfig(size_px=128), "tissues": (1, 1)})
    people = list(simulate_multiplex_cohort(40, 3, seed=8, config=config))
    log_odds, answered = np.array([p.log_odds for p in people]), np.array([p.responder for p in people])
    assert 0.2 < answered.mean() < 0.8 and log_odds[answered].mean() > log_odds[~answered].mean() + 0.5
    tls = np.array([p.fractions["tls"] for p in people])
    assert np.corrcoef(tls, log_odds)[0, 1] > 0.4
    assert np.corrcoef(tls, [p.outcome.linear_predictor for p in people])[0, 1] < -0.3


def test_he_of_the_same_field_is_stained_at_the_patients_site(patients):
    p = patients[0]
    picture = p.picture(0)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8 and np.array_equal(picture, p.picture(0))
    laws = [stain_site(k).mean for k in range(5)]
    assert len({law.hematoxylin for law in laws}) == 5 and all(0 < v < 256 for law in laws for v in law.white)


# --- files


def test_files_are_read_back_as_they_were(tmp_path, images):
    m = images[0]
    files = write_multiplex(tmp_path / "new", "MX-A-001_1", m)
    with open_multiplex(files.image) as opened:
        assert tuple(opened.names) == m.names and opened.mpp_xy == pytest.approx((1.0, 1.0)) and opened.n_channels == 20
    assert not [f for f in check_multiplex(files.image).findings if f.severity == "error"]
    assert np.array_equal(tifffile.imread(files.image), m.image) and np.array_equal(tifffile.imread(files.mask), m.mask)
    with files.cells.open() as table:
        rows = list(csv.DictReader(table))
    assert [int(r["cell_id"]) for r in rows] == m.cells.id.tolist() and rows[0]["cell_type"] == CELL_TYPES[m.cells.kind[0]]
    with files.panel.open() as table:
        assert [r["uniprot"] for r in csv.DictReader(table)] == list(m.uniprot)
