"""Features from elsewhere: matched, checked and published beside what was computed here, never instead of it; and exported again."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from foreign_features import write_clam, write_trident
from small_tissue import MPP, SIDE

from ml.slides.features import read_bag
from ml.slides.findings import FindingCode
from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.intake.models import Import
from tissueboard.jobs import services
from tissueboard.jobs.models import Job, State
from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.feature_export import download_bag, export_features
from tissueboard.predictions.feature_import import import_bags, plan_import
from tissueboard.predictions.feature_jobs import KIND, estimate_features
from tissueboard.predictions.models import Prediction
from tissueboard.slides.regions import draw_region
from tissueboard.slides.tiling import input_key
from tissueboard.store import store

pytestmark = pytest.mark.django_db
IMPORTED = {"imported": "trident", "from": "trident folder job"}
SIZE, TILE = (SIDE, SIDE), 224


@pytest.fixture
def folder(people, tmp_path):
    """Features of both ready slides of the cohort lung, as TRIDENT writes them, and of one slide that is not here."""
    for seed, name in enumerate([slide.name for slide in people.lung.slides[:2]] + ["stranger"]):
        write_trident(tmp_path / "job", name, SIZE, TILE, encoder="uni", dim=1024, seed=seed)
    return tmp_path / "job"


def command(*arguments, **options) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def imported() -> list[Prediction]:
    return list(Prediction.objects.filter(kind="feature bag", version__label="imported").order_by("slide_id"))


def codes(plan):
    return sorted(finding.code for finding in plan.findings)


def test_a_dry_run_says_everything_and_writes_nothing(people, folder, tmp_path):
    before = {model: model.objects.count() for model in (Prediction, ModelVersion, Job, AccessLog)}
    said = command("import_features", "lung", str(folder), "--encoder", "uni", "--dry-run", "--report", str(tmp_path / "report.json"))
    assert "2 to import, 0 here already, tiles of 112 um, version uni (imported)." in said and "Dry run, nothing was written." in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(f["code"], f["file"]) for f in report] == [("FILE_WITHOUT_SLIDE", "stranger.h5")]
    assert {model: model.objects.count() for model in before} == before


def test_bags_are_published_with_their_source(people, folder):
    assert "2 imported." in command("import_features", "lung", str(folder), "--encoder", "uni", "--user", "contributor")
    first, second = imported()
    assert [first.slide, second.slide] == people.lung.slides[:2]
    version = first.version
    assert (version.name, version.label, version.family) == ("uni (imported)", "imported", "encoder")
    told = version.provenance["facts"]
    assert told | {"layout": "trident", "dim": 1024, "weights": "absent"} == told
    assert "job" not in str(version.provenance) + str(version.config), "other cohorts see the version: it names no folder of this one"
    assert version.licence == "CC-BY-NC-ND-4.0" and version.pitch_um == 112.0
    assert [p.name for p in store.path(version.key).iterdir()] == ["provenance.json"]
    assert first.facts == {"n_tiles": 25, "n_skipped": 0, "tile_um": 112.0, "dim": 1024, "encoder": "uni"} | IMPORTED
    assert input_key(first.slide) in first.inputs.values() and first.job.state == State.SUCCEEDED
    bag = read_bag(store.path(first.key))
    assert bag.features.shape == (25, 1024) and bag.grid.mpp == MPP and bag.grid.tile_um == 112.0
    assert AccessLog.objects.filter(verb="import features", user_id=people.contributor.pk, cohort_id=people.lung.cohort.pk).count() == 1
    assert estimate_features(first.slide, version).tiles == 25


def test_regions_restrict_no_bag_that_comes_from_elsewhere_and_whoever_imports_it_is_told(people, folder):
    slide = people.lung.slide
    square = {"type": "Polygon", "coordinates": [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]}
    draw_region(people.contributor, slide, geometry=square, role="exclude")
    said = command("import_features", "lung", str(folder), "--encoder", "uni")
    assert said.count("REGIONS_NOT_APPLIED") == 1
    first, second = imported()
    assert first.slide == slide and "regions" not in first.inputs and first.facts["n_tiles"] == second.facts["n_tiles"]


def test_asked_twice_nothing_is_done_twice_and_another_set_is_refused(people, folder, tmp_path):
    command("import_features", "lung", str(folder), "--encoder", "uni")
    jobs = Job.objects.count()
    assert "0 to import, 2 here already" in command("import_features", "lung", str(folder), "--encoder", "uni")
    assert Job.objects.count() == jobs
    before = {bag.pk: bag.sha256 for bag in imported()}
    write_trident(tmp_path / "other", people.lung.slide.name, SIZE, TILE, encoder="uni", dim=1024, seed=9)
    plan = plan_import(None, people.lung.cohort, tmp_path / "other", "uni")
    assert "ALREADY_IMPORTED" in codes(plan) and not plan.due
    assert {bag.pk: bag.sha256 for bag in imported()} == before


def test_what_was_computed_here_stays(people, folder, run_jobs):
    version = ensure_builtin_encoders()[0]
    slide = people.lung.slide
    services.enqueue(None, KIND, {"slide": slide.pk, "version": version.pk}, cohorts=[people.lung.cohort])
    run_jobs()
    computed = Prediction.objects.get(slide=slide, kind="feature bag")
    command("import_features", "lung", str(folder), "--encoder", "he-descriptors-of-1024")
    after = Prediction.objects.get(pk=computed.pk)
    assert (after.sha256, after.version, after.job) == (computed.sha256, version, computed.job)
    assert Prediction.objects.filter(slide=slide, kind="feature bag").count() == 2


def test_names_are_mapped_or_those_of_the_imported_files(people, tmp_path):
    slides = people.lung.slides
    write_trident(tmp_path / "job", "TCGA-AA-1", SIZE, TILE, encoder="x")
    write_trident(tmp_path / "job", "scan 4711", SIZE, TILE, encoder="x", seed=1)
    Import.objects.create(cohort=people.lung.cohort, kind="slide", file_name="scan 4711.svs", sha256=slides[1].sealed_sha256)
    mapping = tmp_path / "mapping.csv"
    with mapping.open("w", newline="") as file:
        csv.writer(file).writerows([["slide", "file"], [slides[0].name, "folder/TCGA-AA-1.svs"]])
    plan = plan_import(None, people.lung.cohort, tmp_path / "job", "x", mapping)
    assert {(p.bag.name, p.slide) for p in plan.bags} == {("TCGA-AA-1", slides[0]), ("scan 4711", slides[1])} and not plan.findings
    assert codes(plan_import(None, people.lung.cohort, tmp_path / "job", "x")) == ["FILE_WITHOUT_SLIDE", "SLIDE_WITHOUT_FILE"]


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ([["name", "file"], ["a", "b"]], ""),
        ([["slide", "file"], ["nobody", "b"]], "row 2, column slide"),
        ([["slide", "file"], ["{0}", "a.svs"], ["{1}", "a.svs"]], "row 3, column file"),
        ([["slide", "file"], ["{0}", ""]], "row 2, column file"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_row(people, folder, tmp_path, rows, where):
    names = [slide.name for slide in people.lung.slides]
    mapping = tmp_path / "mapping.csv"
    with mapping.open("w", newline="") as file:
        csv.writer(file).writerows([[cell.format(*names) for cell in row] for row in rows])
    with pytest.raises(TissueboardError) as caught:
        plan_import(None, people.lung.cohort, folder, "uni", mapping)
    assert caught.value.code == "MAPPING_INVALID" and where in caught.value.where


def test_one_bad_file_among_good_ones_is_left_out_with_its_finding(people, tmp_path):
    first, second = people.lung.slides[:2]
    write_clam(tmp_path, first.name, SIZE, TILE)
    victim = write_clam(tmp_path, second.name, SIZE, TILE, pt=False)
    victim.write_bytes(victim.read_bytes()[:-300])
    plan = plan_import(None, people.lung.cohort, tmp_path, "resnet-clam")
    assert codes(plan) == [FindingCode.BAG_UNREADABLE] and [p.slide for p in plan.bags] == [first]
    assert [job.state for job in import_bags(None, plan, "clam")] == [State.QUEUED]


def test_dimension_and_tile_size_hold_a_set_together(people, tmp_path):
    first, second = people.lung.slides[:2]
    write_trident(tmp_path / "a", first.name, SIZE, TILE, encoder="x", dim=8)
    write_trident(tmp_path / "a", second.name, SIZE, TILE, encoder="x", dim=9)
    assert codes(plan_import(None, people.lung.cohort, tmp_path / "a", "x")) == [FindingCode.FEATURES_WRONG_DIM]
    assert (
        codes(plan_import(None, people.lung.cohort, tmp_path / "a", "uni")) == [FindingCode.FEATURES_WRONG_DIM] * 2
    )  # the catalogue knows
    import_bags(None, plan_import(None, people.lung.cohort, tmp_path / "a", "x"), "a")
    write_trident(tmp_path / "b", second.name, SIZE, 2 * TILE, encoder="x", dim=8)
    assert FindingCode.TILE_SIZE_DIFFERS in codes(plan_import(None, people.lung.cohort, tmp_path / "b", "x"))


def test_a_file_that_changed_in_the_store_is_not_published(people, folder, run_jobs):
    plan = plan_import(None, people.lung.cohort, folder, "uni")
    job, other = import_bags(None, plan, "job")
    path = store.path(job.params["key"])
    path.write_bytes(path.read_bytes()[:-8])
    run_jobs()
    job.refresh_from_db()
    other.refresh_from_db()
    assert (job.state, other.state) == (State.FAILED, State.SUCCEEDED) and len(imported()) == 1


def test_only_who_may_write_imports(people, folder):
    for user, error in ((people.viewer, RoleMissing), (people.outsider, NotVisible), (people.staff, NotVisible)):
        with pytest.raises(error):
            plan_import(user, people.lung.cohort, folder, "uni")
    with pytest.raises(CommandError, match="no cohort nowhere"):
        command("import_features", "nowhere", str(folder), "--encoder", "uni")
    with pytest.raises(CommandError, match="FILE_MISSING"):
        command("import_features", "lung", str(folder / "nothing"), "--encoder", "uni")


def test_an_imported_version_encodes_nothing(people, folder, run_jobs):
    command("import_features", "lung", str(folder), "--encoder", "uni")
    version = ModelVersion.objects.get(label="imported")
    job = services.enqueue(None, KIND, {"slide": people.lung.slide.pk, "version": version.pk}, cohorts=[people.lung.cohort])
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.FAILED, "WEIGHTS_MISSING") and "made elsewhere" in job.error_sentence


@pytest.mark.parametrize("layout", ["trident", "clam"])
def test_what_is_exported_can_be_imported_and_is_the_same(people, folder, tmp_path, layout):
    command("import_features", "lung", str(folder), "--encoder", "uni")
    version = ModelVersion.objects.get(label="imported")
    said = command(
        "export_features", "lung", str(tmp_path / "out"), "--model-version", str(version.pk), "--layout", layout, "--user", "contributor"
    )
    assert "2 slides exported" in said and "imported" in said
    logged = AccessLog.objects.filter(verb="export features", user_id=people.contributor.pk)
    assert {row.patient_code for row in logged} == {slide.sample.patient.code for slide in people.lung.slides[:2]}
    plan = plan_import(None, people.lung.cohort, tmp_path / "out", "again")
    assert len(plan.due) == 2 and not plan.findings
    import_bags(None, plan, "out")
    for job in Job.objects.filter(kind="predictions.import_features", state=State.QUEUED):
        back = read_bag(store.path(job.params["key"]))
        first = read_bag(store.path(Prediction.objects.get(slide_id=job.params["slide"], version=version).key))
        assert np.array_equal(back.features, first.features) and np.array_equal(back.grid.xy, first.grid.xy)


def test_export_is_for_contributors_and_says_what_is_missing(people, folder, tmp_path):
    version = ensure_builtin_encoders()[0]
    with pytest.raises(RoleMissing):
        export_features(people.viewer, people.lung.cohort, version, tmp_path, "trident")
    with pytest.raises(TissueboardError, match="no features of"):
        export_features(people.contributor, people.lung.cohort, version, tmp_path, "trident")
    with pytest.raises(CommandError, match="There is no version 0"):
        command("export_features", "lung", str(tmp_path), "--model-version", "0")
    command("import_features", "lung", str(folder), "--encoder", "uni")
    bag = imported()[0]
    store.delete(bag.key)
    with pytest.raises(CommandError, match="BAG_MISSING"):
        command("export_features", "lung", str(tmp_path / "out"), "--model-version", str(bag.version_id))
    assert Cohort.objects.get(name="lung") == people.lung.cohort


def test_a_bag_is_handed_to_those_who_may_see_its_slide_and_logged(people, folder):
    command("import_features", "lung", str(folder), "--encoder", "uni")
    bag = imported()[0]
    sent = download_bag(people.viewer, bag.slide_id, bag.pk)
    assert sent.path.read_bytes() == store.path(bag.key).read_bytes() and sent.name == f"{bag.slide.name}-uni__imported_.h5"
    assert AccessLog.objects.filter(verb="export features", user_id=people.viewer.pk, patient_code=bag.patient.code).count() == 1
    for user, slide in ((people.stranger, bag.slide_id), (people.viewer, people.lung.slides[1].pk)):
        with pytest.raises(NotVisible):
            download_bag(user, slide, bag.pk)


def test_a_bag_that_changed_in_the_store_is_not_handed_out(people, folder, tmp_path):
    command("import_features", "lung", str(folder), "--encoder", "uni")
    bag = imported()[0]
    content = store.path(bag.key).read_bytes()
    store.path(bag.key).write_bytes(content[: len(content) // 2])
    with pytest.raises(TissueboardError) as refused:
        download_bag(people.viewer, bag.slide_id, bag.pk)
    assert (refused.value.code, refused.value.status) == ("BAG_CHANGED", 409)
    assert not AccessLog.objects.filter(verb="export features").exists()
    with pytest.raises(CommandError, match="BAG_CHANGED"):
        command("export_features", "lung", str(tmp_path / "out"), "--model-version", str(bag.version_id))
