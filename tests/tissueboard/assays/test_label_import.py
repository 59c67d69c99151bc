"""Measured labels of a slide: what is kept, what is refused and why, from tables and from registered images, for whom."""

import numpy as np
import pandas as pd
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from label_tables import MARKERS, changed, csv_of
from multiplex_pictures import draw

from tissueboard.accounts.models import AccessLog
from tissueboard.assays.errors import AssayCode, LabelsRefused
from tissueboard.assays.label_uploads import receive_labels
from tissueboard.assays.models import Assay, MultiplexImage, Panel
from tissueboard.assays.services import Asked, add_labels, request_labels
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs.models import Job, State
from tissueboard.store import checksum, store

pytestmark = pytest.mark.django_db
SIDE = 112


@pytest.fixture
def slide(people):
    return people.lung.slide


@pytest.fixture
def table(tmp_path):
    """Call it with bytes: a file."""

    def write(content, name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def refusal(*args, **kwargs):
    """The codes of everything that is wrong, and the refusal itself."""
    with pytest.raises(LabelsRefused) as caught:
        add_labels(*args, **kwargs)
    for one in caught.value.findings:
        assert one.sentence.endswith(".") and one.hint.endswith(".")
    return [one.code for one in caught.value.findings if one.severity == "error"], caught.value


# --- what is kept


def test_a_table_is_kept_as_it_came_with_its_panel_and_who_brought_it(people, slide, table):
    content = csv_of(slide, scale=180.0)
    result = add_labels(people.contributor, slide, table(content))
    assay = Assay.objects.get(slide=slide)
    assert (result.state, result.assay, result.findings, result.n_tiles, result.scale) == ("added", assay, [], 12, "0..255")
    assert (assay.kind, assay.tile_um, assay.sample, assay.simulated) == ("codex", 56.0, slide.sample, False)
    assert assay.panel.markers == list(MARKERS) and assay.created_by == people.contributor
    kept = pd.read_parquet(store.path(assay.key))
    came = pd.read_csv(table(content))
    assert list(kept.columns) == ["x", "y", *MARKERS] and np.array_equal(kept[["x", "y"]], came[["x", "y"]])
    assert np.array_equal(kept[list(MARKERS)], came[list(MARKERS)].astype("float32"))
    assert assay.sha256 == checksum(store.path(assay.key)) and assay.facts["source_sha256"] == checksum(table(content))
    assert AccessLog.objects.filter(user_id=people.contributor.pk, verb="add labels", patient_code=slide.sample.patient.code).exists()


def test_a_dry_run_says_the_same_and_writes_nothing(people, slide, table):
    result = add_labels(people.contributor, slide, table(csv_of(slide)), dry_run=True)
    assert (result.state, result.assay, result.n_tiles, result.markers) == ("checked", None, 12, MARKERS)
    assert not Assay.objects.exists() and not Panel.objects.exists() and not store.exists(f"assays/labels/{slide.pk}")


def test_the_same_again_changes_nothing_and_others_make_room_only_when_told(people, slide, table):
    first = add_labels(people.contributor, slide, table(csv_of(slide))).assay
    assert add_labels(people.contributor, slide, table(csv_of(slide))).state == "there already"
    other = table(csv_of(slide, seed=5))
    codes, error = refusal(people.contributor, slide, other)
    assert codes == [AssayCode.LABELS_EXIST] and error.status == 409 and "12 tiles" in error.sentence
    assert [p.name for p in store.path(first.key).parent.iterdir()] == [store.path(first.key).name]
    assert add_labels(people.contributor, slide, other, Asked(kind="imc")).state == "added"
    replaced = add_labels(people.contributor, slide, other, Asked(replace=True)).assay
    assert replaced.pk == first.pk and replaced.key != first.key and Assay.objects.count() == 2


def test_panels_are_found_by_their_markers(people, slide, table):
    hex_panel = Panel.objects.create(name="HEX 2", markers=list(MARKERS))
    other = people.lung.slides[1]
    assert add_labels(people.contributor, slide, table(csv_of(slide))).assay.panel == hex_panel
    named = add_labels(people.contributor, other, table(csv_of(other)), Asked(panel="Bern")).assay.panel
    assert (named.name, named.markers) == ("Bern", list(MARKERS))
    turned = table(csv_of(slide, markers=MARKERS[::-1]))
    codes, error = refusal(people.contributor, slide, turned, Asked(panel="Bern", kind="imc"))
    assert codes == [AssayCode.PANEL_DIFFERS] and "their order is another one" in error.sentence
    made = add_labels(people.contributor, slide, turned, Asked(kind="imc")).assay.panel
    assert made.name == "CD68 and 1 more"


def test_numbered_columns_need_names(people, slide, table):
    numbered = table(csv_of(slide, markers=("mean_intensity_channel1", "mean_intensity_channel2")))
    assert refusal(people.contributor, slide, numbered)[0] == ["MARKERS_MISSING"]
    assert add_labels(people.contributor, slide, numbered, Asked(markers=["a", "b"])).markers == ("a", "b")


def test_pixels_of_the_whole_file_are_moved_to_the_scanned_part(people, slide, table):
    slide.facts = {"origin_px0": [100, 50]}
    slide.save()
    codes, error = refusal(people.contributor, slide, table(csv_of(slide)))
    assert codes == [AssayCode.COORDS_OUTSIDE] and "x -100, y -50" in error.hint and error.where == "row 2"
    kept = add_labels(people.contributor, slide, table(csv_of(slide)), Asked(whole_file=False)).assay
    assert pd.read_parquet(store.path(kept.key))["x"].min() == 0


def test_of_a_table_of_several_slides_only_its_own_rows_count(people, slide, table):
    both = csv_of(slide) + b"\n".join(csv_of(people.lung.slides[1], n=20).splitlines()[1:]) + b"\n"
    assert add_labels(people.contributor, slide, table(both)).n_tiles == 12
    renamed = both.replace(slide.name.encode(), b"17")
    codes, error = refusal(people.contributor, slide, table(renamed), Asked(table_slide="18"))
    assert codes == [AssayCode.SLIDE_UNKNOWN] and "it has 17" in error.sentence
    assert add_labels(people.contributor, slide, table(renamed), Asked(table_slide="17", kind="imc")).n_tiles == 12
    strange = renamed.replace(people.lung.slides[1].name.encode(), b"18")
    codes, error = refusal(people.contributor, slide, table(strange))
    assert codes == [AssayCode.SEVERAL_SLIDES] and "17, 18" in error.sentence


def test_a_table_under_a_name_that_nobody_knows_is_taken_at_the_persons_word(people, slide, table):
    result = add_labels(people.contributor, slide, table(csv_of(slide, name="0")))
    assert [one.code for one in result.findings] == [AssayCode.SLIDE_NAMED_OTHERWISE] and result.assay.findings == []
    by_patient = csv_of(slide, name=slide.sample.patient.code, seed=3)
    assert add_labels(people.contributor, slide, table(by_patient), Asked(kind="imc")).findings == []


# --- what is refused


def test_a_table_of_another_patient_is_refused(people, slide, table):
    other = people.lung.slides[1]
    for name in (other.name, other.sample.patient.code):
        codes, error = refusal(people.contributor, slide, table(csv_of(slide, name=name)))
        assert codes == [AssayCode.PATIENT_DISAGREES] and other.sample.patient.code in error.sentence
        assert slide.sample.patient.code in error.sentence
    add_labels(people.contributor, slide, table(csv_of(slide, name="0")))
    codes, error = refusal(people.contributor, other, table(csv_of(slide, name="0")))
    assert codes == [AssayCode.PATIENT_DISAGREES] and error.status == 409 and slide.name in error.sentence
    assert not store.path(f"assays/labels/{other.pk}").exists() or not list(store.path(f"assays/labels/{other.pk}").iterdir())
    # The name of a slide that she may not see says nothing.
    theirs = add_labels(people.contributor, slide, table(csv_of(slide, name=people.breast.slide.name, seed=9)), Asked(kind="imc"))
    assert [one.code for one in theirs.findings] == [AssayCode.SLIDE_NAMED_OTHERWISE]


def test_all_that_is_wrong_with_the_tiles_is_told_at_once(people, slide, table):
    content = csv_of(slide, n=9)
    content = changed(changed(content, 4, "x", "1120"), 6, "y", "-1")
    content = changed(changed(content, 9, "x", "0"), 9, "y", "0")
    codes, error = refusal(people.contributor, slide, table(content))
    assert codes == [AssayCode.COORDS_OUTSIDE, AssayCode.COORDS_TWICE, AssayCode.TOO_FEW_TILES]
    outside, twice, few = error.findings
    assert outside.sentence.startswith("2 of 9 tiles lie off the slide") and outside.where == "row 4"
    assert "rows 2 and 9" in twice.hint and twice.where == "row 9" and "9 measured tiles" in few.sentence
    assert not Assay.objects.exists()


@pytest.mark.parametrize(
    ("row", "column", "value", "code", "where"),
    [
        (5, "CD8", "nan", "LABELS_NOT_FINITE", "labels.csv, row 5, column CD8"),
        (5, "CD68", "-0.1", "LABELS_RANGE", "labels.csv, row 5, column CD68"),
        (7, "x", "1e3x", "TABLE_CELL", "labels.csv, row 7, column x"),
        (1, "CD68", "CD8", "MARKERS_INVALID", "labels.csv, row 1"),
    ],
)
def test_a_bad_cell_is_told_with_its_place(people, slide, table, row, column, value, code, where):
    codes, error = refusal(people.contributor, slide, table(changed(csv_of(slide), row, column, value)))
    assert codes == [code] and error.where == where


@pytest.mark.parametrize("tile_um", [0.5, 2000.0, 600.0])
def test_a_tile_size_that_no_tile_of_the_slide_can_have(people, slide, table, tile_um):
    codes, _ = refusal(people.contributor, slide, table(csv_of(slide)), Asked(tile_um=tile_um))
    assert codes == [AssayCode.TILE_SIZE_IMPLAUSIBLE]


def test_doubtful_labels_are_kept_with_a_warning(people, slide, table):
    wide = add_labels(people.contributor, slide, table(csv_of(slide)), Asked(tile_um=112.0))
    assert [one.code for one in wide.findings] == [AssayCode.TILE_SPACING]
    assert "112 px apart" in wide.findings[0].sentence and "56 um here" in wide.findings[0].hint
    other = people.lung.slides[1]
    edge = changed(csv_of(other, scale=900.0), 13, "x", "1100")
    warned = add_labels(people.contributor, other, table(edge))
    assert [one.code for one in warned.findings] == [AssayCode.TILE_OVER_EDGE, AssayCode.SCALE_DIFFERS]
    assert "look like 0..1" in warned.findings[1].sentence
    assert [one["code"] for one in warned.assay.findings] == [AssayCode.TILE_OVER_EDGE, AssayCode.SCALE_DIFFERS]


def test_slides_that_cannot_have_measured_labels(people, slide, table):
    with pytest.raises(TissueboardError, match="is not ready"):
        add_labels(people.contributor, people.lung.waiting, table(csv_of(slide)))
    slide.simulated = True
    slide.save()
    assert refusal(people.contributor, slide, table(csv_of(slide)))[0] == [AssayCode.SLIDE_SIMULATED]
    assert refusal(people.contributor, slide, table(csv_of(slide)), Asked(kind="magic"))[0] == [AssayCode.BAD_LABEL_KIND]


def test_rights(people, slide, table):
    with pytest.raises(RoleMissing):
        add_labels(people.viewer, slide, table(csv_of(slide)))
    with pytest.raises(NotVisible):
        add_labels(people.stranger, slide, table(csv_of(slide)))
    assert add_labels(people.contributor, slide, table(csv_of(slide))).state == "added"


# --- what was sent, and the command


def test_what_a_person_typed_is_read_with_care(people, slide, settings):
    def send(**typed):
        return receive_labels(people.contributor, slide, SimpleUploadedFile("a/b.csv", csv_of(slide)), typed, dry_run=True)

    assert send(tile_um="56,0", markers="a\n b\n").markers == ("a", "b") and send().n_tiles == 12
    for typed, code in (({"tile_um": "wide"}, AssayCode.TILE_SIZE_IMPLAUSIBLE), ({"markers": "a,a"}, "MARKERS_INVALID")):
        with pytest.raises(LabelsRefused) as caught:
            send(**typed)
        assert caught.value.code == code
    settings.UPLOAD_MAX_BYTES = 100
    with pytest.raises(LabelsRefused) as caught:
        send()
    assert (caught.value.code, caught.value.status) == (AssayCode.TABLE_TOO_LARGE, 413)
    assert not list((store.root / ".tmp").glob("*.csv"))


def test_the_command_imports_or_says_everything_that_is_wrong(people, slide, table, capsys):
    path, common = table(csv_of(slide)), {"slide": slide.name, "user": "contributor"}
    call_command("import_labels", "lung", str(path), dry_run=True, **common)
    assert "12 tiles, 2 markers, values like 0..1; checked." in capsys.readouterr().out and not Assay.objects.exists()
    call_command("import_labels", "lung", str(path), **common)
    assert Assay.objects.get().slide == slide
    wrong = table(changed(csv_of(slide, n=9), 3, "x", "-5"), "wrong.csv")
    with pytest.raises(CommandError, match="COORDS_OUTSIDE: nothing was kept"):
        call_command("import_labels", "lung", str(wrong), **common)
    told = capsys.readouterr().out
    assert "error: COORDS_OUTSIDE [row 3] 1 of 9 tiles" in told and "TOO_FEW_TILES" in told
    for arguments, said in (
        (("nowhere", str(path)), "no cohort nowhere"),
        (("lung",), "one of the two"),
        (("lung", str(path)), "There is no slide X"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("import_labels", *arguments, slide="X")
    with pytest.raises(CommandError, match="ROLE_MISSING"):
        call_command("import_labels", "lung", str(path), slide=slide.name, user="viewer")


# --- from a registered image


@pytest.fixture
def registered(slide):
    """An image of three channels on the very pixels of the slide, and its picture."""
    from ml.multiplex.zarr_pyramid import write_pyramid

    key, picture = "tests/registered.zarr", draw(height=slide.height, width=slide.width, seed=4)
    if not store.exists(key):
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        write_pyramid(store.path(key), picture.shape, picture.dtype, lambda c: iter([picture[c]]), ("DAPI", "CD3", "PanCK"), 0.5)
    image = MultiplexImage.objects.create(
        sample=slide.sample, name="M-registered", sealed_sha256="a" * 64, state="ready", technology="codex",
        width=slide.width, height=slide.height, dtype="uint16", key=key, sha256=checksum(store.path(key)),
        channels=["DAPI", "CD3", "Pan-CK"], mpp=0.5, facts={"n_channels": 3},
    )  # fmt: skip
    return image, picture


def expected(picture, xy):
    return np.array([[c[y : y + SIDE, x : x + SIDE].mean() for c in picture] for x, y in xy], np.float32)


def test_labels_are_measured_on_an_image_that_lies_on_the_slide(people, slide, registered, run_jobs):
    image, picture = registered
    job = request_labels(people.contributor, slide, image)
    assert (job.queue, job.kind) == ("cpu", "assays.labels_from_multiplex")
    assert request_labels(people.contributor, slide, image).pk == job.pk
    run_jobs()
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED, job.error_sentence
    assay = Assay.objects.get(slide=slide)
    kept = pd.read_parquet(store.path(assay.key))
    assert assay.panel.markers == image.channels and assay.facts["source"] == f"multiplex image {image.pk}"
    assert len(kept) == assay.facts["n_tiles"] > 40 and assay.facts["scale"] in ("0..255", "raw counts") and assay.findings == []
    assert np.array_equal(kept[image.channels], expected(picture, kept[["x", "y"]].to_numpy()))


def test_the_command_measures_the_tiles_of_a_coordinate_file(people, slide, registered, tmp_path):
    import h5py

    image, picture = registered
    xy = np.array([[x, y] for y in (5, 117, 229) for x in (3, 115, 227, 339)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = xy
        file["coords"].attrs.update({"patch_level": 0, "patch_size": SIDE})
    call_command("import_labels", "lung", slide=slide.name, from_multiplex=image.pk, coords=str(tmp_path / "a.h5"))
    kept = pd.read_parquet(store.path(Assay.objects.get(slide=slide, tile_um=56.0).key))
    assert np.array_equal(kept[["x", "y"]], xy) and np.array_equal(kept[image.channels], expected(picture, xy))
    with pytest.raises(CommandError, match="COORDS_OUTSIDE"):
        call_command("import_labels", "lung", slide=slide.name, from_multiplex=image.pk, coords=str(tmp_path / "a.h5"), origin="4,0")
    assert Job.objects.filter(kind="assays.labels_from_multiplex", state=State.FAILED).count() == 1


def test_an_image_that_is_not_registered_or_of_somebody_else_is_refused(people, slide, registered):
    image, _ = registered
    other = people.lung.slides[1]
    for change, target, code in (
        ({"mpp": 0.51}, slide, AssayCode.NOT_REGISTERED),
        ({"state": "needs attention"}, slide, AssayCode.IMAGE_NOT_READY),
        ({}, other, AssayCode.PATIENT_DISAGREES),
    ):
        for name, value in change.items():
            setattr(image, name, value)
        with pytest.raises(LabelsRefused) as caught:
            request_labels(people.contributor, target, image)
        assert caught.value.code == code
        image.refresh_from_db()
    with pytest.raises(RoleMissing):
        request_labels(people.viewer, slide, image)


# --- REST


def test_the_api_takes_a_table_and_lists_labels(people, slide):
    address = f"/api/v1/slides/{slide.pk}/labels/"

    def send(person="contributor", content=None, **more):
        file = SimpleUploadedFile("t.csv", csv_of(slide) if content is None else content)
        return people.api(person).post(address, {"file": file, **more}, format="multipart")

    assert send(dry_run=True).json()["state"] == "checked" and people.api("viewer").get(address).json()["results"] == []
    sent = send(panel="P")
    assert sent.status_code == 201 and sent.json()["labels"]["panel"] == "P" and sent.json()["n_tiles"] == 12
    assert send().json()["state"] == "there already"
    listed = people.api("viewer").get(address).json()["results"]
    assert [(one["kind"], one["markers"], one["n_tiles"], one["scale"]) for one in listed] == [("codex", list(MARKERS), 12, "0..1")]
    wrong = send(content=csv_of(slide, n=3))
    assert (wrong.status_code, wrong.json()["code"]) == (400, "TOO_FEW_TILES")
    assert send(tile_um=0).status_code == 400 and send(kind="magic").status_code == 400 and send(content=b"").status_code == 400
    assert send(person="viewer").status_code == 403 and send(person="stranger").status_code == 404
    assert send(content=csv_of(slide, seed=1)).status_code == 409 and send(content=csv_of(slide, seed=1), replace=True).status_code == 201
