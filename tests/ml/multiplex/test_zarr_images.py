"""OME-Zarr of both versions comes in with its names and size; one with a lost chunk is refused, because a reader would give zeros."""

import json
import shutil

import numpy as np
import pytest
from multiplex_pictures import NAME, PANEL, draw, write_ome
from zarr_images import write_zarr, zip_tree

from ml.multiplex import zarr_input
from ml.multiplex.convert import check_multiplex, convert_multiplex
from ml.multiplex.files import open_multiplex
from ml.multiplex.isolated import check_multiplex_isolated
from ml.multiplex.zarr_pyramid import OpenImage
from ml.slides.findings import FindingCode as Code

KINDS = {
    "0.4": {"version": "0.4"},
    "0.4 with five axes": {"version": "0.4", "axes": "tczyx"},
    "0.4 in nanometres": {"version": "0.4", "unit": "nanometer", "um": 500.0},
    "0.4 with dots": {"version": "0.4", "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "0.5": {},
    "0.5 with shards": {"shards": (1, 256, 256), "chunks": (1, 64, 64)},
    "0.5 with chunks over channels": {"chunks": (2, 100, 150)},
    "0.5 with one shard for all": {"chunks": (1, 150, 200), "shards": (3, 300, 400)},
}


def codes(report):
    return {str(finding.code) for finding in report.findings}


@pytest.mark.parametrize(("kind", "as_zip"), [(kind, i % 2 == 0) for i, kind in enumerate(KINDS)])
def test_an_image_comes_in_pixel_for_pixel(tmp_path, kind, as_zip):
    picture = draw()
    path = write_zarr(tmp_path / "point.ome.zarr", picture, **KINDS[kind])
    path = zip_tree(path, tmp_path / "point.zip") if as_zip else path
    report = check_multiplex(path)
    assert report.state == "ready" and report.facts["channels"] == list(PANEL) and report.facts["mpp"] == pytest.approx(0.5)
    assert report.facts["format"] == f"OME-Zarr {kind[:3]}" and codes(report) == {Code.IDENTIFIERS_IN_HEADER}
    facts = convert_multiplex(path, tmp_path / "out.zarr")
    assert np.array_equal(np.stack([OpenImage(tmp_path / "out.zarr").read(c, 0, 0, 0, 300, 400) for c in range(3)]), picture)
    assert facts["n_channels"] == 3 and NAME not in json.dumps(facts)


def test_big_endian_floats_are_read_in_the_machines_order(tmp_path):
    picture = draw(dtype="float32")
    path = write_zarr(tmp_path / "a.zarr", picture.astype(">f4"), "0.4")
    with open_multiplex(path) as opened, opened.plane(1) as plane:
        assert plane.dtype == np.dtype("float32") and plane.dtype.isnative and np.array_equal(plane.rows(7, 270), picture[1, 7:270])


@pytest.mark.parametrize(
    ("kind", "as_zip"),
    [("0.4", True), ("0.4 with dots", False), ("0.5", False), ("0.5 with shards", True), ("0.5 with one shard for all", True)],
)
def test_a_missing_chunk_is_refused_and_counted(tmp_path, kind, as_zip):
    path = write_zarr(tmp_path / "a.zarr", draw(), **KINDS[kind])
    files = sorted(p for p in (path / "0").rglob("*") if p.is_file() and p.name not in (".zarray", ".zattrs", "zarr.json"))
    files[len(files) // 2].unlink()
    said = "All of the 1 chunk" if len(files) == 1 else f"1 of the {len(files)} chunk"
    report = check_multiplex(zip_tree(path, tmp_path / "a.zip") if as_zip else path)
    assert report.state == "rejected" and codes(report) == {Code.ZARR_CHUNKS_MISSING} and report.findings[0].sentence.startswith(said)
    assert "write_empty_chunks" in report.findings[0].hint


def test_an_empty_chunk_file_and_chunks_left_out_on_purpose_count_as_missing(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", draw())
    (path / "0" / "c" / "0" / "0" / "0").write_bytes(b"")
    assert codes(check_multiplex(path)) == {Code.ZARR_CHUNKS_MISSING}
    sparse = np.zeros((3, 300, 400), np.uint16)
    sparse[:, :10, :10] = 5
    report = check_multiplex(write_zarr(tmp_path / "b.zarr", sparse, every=False))
    assert codes(report) == {Code.ZARR_CHUNKS_MISSING} and report.findings[0].sentence.startswith("33 of the 36")


def test_the_published_example_without_its_pixels_is_refused(data):
    """Metadata present, shard absent: a zarr reader gives zeros for all of its 43 channels."""
    (folder,) = (data / "imc/virtues_example/imc/1_0mpp/images").iterdir()
    report = check_multiplex_isolated(folder)
    assert report.state == "rejected" and codes(report) == {Code.ZARR_CHUNKS_MISSING}
    assert "chunk files of the finest level are missing" in report.findings[0].sentence


def test_a_damaged_chunk_is_told(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", draw())
    (path / "0" / "c" / "1" / "0" / "0").write_bytes(b"not a chunk")
    report = check_multiplex(path)
    assert report.state == "rejected" and codes(report) >= {Code.TILE_UNREADABLE} and report.findings[-1].where.startswith("channel 2")


def edited(path, change):
    """The metadata of an image (0.5) or of its first array changed by hand."""
    for name in ("zarr.json", "0/zarr.json"):
        head = json.loads((path / name).read_text())
        change(name, head)
        (path / name).write_text(json.dumps(head))
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda name, head: head.update(data_type="string") if name[0] == "0" else None, Code.ZARR_UNREADABLE),
        (lambda name, head: head["codecs"].append({"name": "numcodecs.pickle"}) if name[0] == "0" else None, Code.ZARR_UNREADABLE),
        (lambda name, head: head.update(shape=[3, 300]) if name[0] == "0" else None, Code.ZARR_UNREADABLE),
        (lambda name, head: head.update(shape=[3, 10**9, 10**9]) if name[0] == "0" else None, Code.ARCHIVE_TOO_LARGE),
        (lambda name, head: head.update(chunk_grid={}) if name[0] == "0" else None, Code.ZARR_UNREADABLE),
        (lambda name, head: head.update(attributes={}), Code.ZARR_UNREADABLE),
        (lambda name, head: head["attributes"].get("ome", {}).update(multiscales=[3]), Code.ZARR_UNREADABLE),
        (lambda name, head: head["attributes"].get("ome", {}).update(multiscales=[{"axes": ["c", "y", "x"]}]), Code.ZARR_UNREADABLE),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_right_are_refused(tmp_path, change, code):
    report = check_multiplex(edited(write_zarr(tmp_path / "a.zarr", draw()), change))
    assert report.state == "rejected" and codes(report) == {code}


def test_a_pickle_in_the_old_format_is_never_opened(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", draw(), "0.4")
    head = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(head | {"dtype": "|O", "filters": [{"id": "pickle"}]}))
    assert codes(check_multiplex(path)) == {Code.ZARR_UNREADABLE}
    (path / "0" / ".zarray").write_text(json.dumps(head | {"filters": [{"id": "pickle"}]}))
    assert codes(check_multiplex(path)) == {Code.ZARR_UNREADABLE}


def test_what_is_missing_waits_for_a_person(tmp_path):
    report = check_multiplex(write_zarr(tmp_path / "a.zarr", draw(), names=None, unit=None))
    assert report.state == "needs attention" and codes(report) >= {Code.CHANNEL_NAMES_MISSING, Code.MPP_MISSING}
    given = check_multiplex(tmp_path / "a.zarr", ["a", "b", "c"], 0.4)
    assert given.state == "ready" and given.facts["channels"] == ["a", "b", "c"] and given.facts["mpp"] == 0.4
    wrong = check_multiplex(write_zarr(tmp_path / "b.zarr", draw(), names=("DAPI", "CD3")))
    assert codes(wrong) >= {Code.METADATA_BROKEN, Code.CHANNEL_NAMES_MISSING}


def test_stacks_and_several_images_are_refused(tmp_path):
    deep = write_zarr(tmp_path / "deep.zarr", draw(), axes="zyx")
    assert codes(check_multiplex(deep)) == {Code.STACK_NOT_FLAT}
    both = tmp_path / "both"
    write_zarr(both / "a.zarr", draw())
    shutil.copytree(both / "a.zarr", both / "b.zarr")
    assert codes(check_multiplex(both)) == {Code.SEVERAL_IMAGES}


def test_links_in_a_folder_are_not_followed(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", draw())
    chunk = path / "0" / "c" / "0" / "0" / "0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    assert codes(check_multiplex(path)) == {Code.ZARR_CHUNKS_MISSING}


def test_a_panel_beside_a_zarr_names_its_channels(tmp_path):
    write_zarr(tmp_path / "all" / "a.zarr", draw(), names=None)
    (tmp_path / "all" / "panel.csv").write_text("channel,name,keep\nIr191,DNA,1\nPr141,CD3,1\nNd142,CD4,0\nEr168,CK5,1\n")
    report = check_multiplex(tmp_path / "all")
    assert report.state == "ready" and report.facts["channels"] == ["DNA", "CD3", "CK5"] and report.facts["names_source"] == "panel"


def test_an_image_below_the_side_of_a_crop_is_kept_and_told(tmp_path):
    report = check_multiplex(write_zarr(tmp_path / "a.zarr", draw(3, 300, 127), chunks=(1, 300, 127)))
    assert report.state == "ready" and codes(report) >= {Code.TOO_SMALL_FOR_CROPS} and "127 x 300" in report.findings[-1].sentence
    assert Code.TOO_SMALL_FOR_CROPS not in codes(check_multiplex(write_ome(tmp_path / "b.ome.tif", draw(3, 128, 128))))


def test_our_own_pyramids_can_be_imported_again(tmp_path):
    convert_multiplex(write_ome(tmp_path / "a.ome.tif", draw(3, 1300, 1100)), tmp_path / "a.zarr")
    report = check_multiplex(zip_tree(tmp_path / "a.zarr", tmp_path / "a.zip"))
    assert report.state == "ready" and report.facts["channels"] == list(PANEL) and report.facts["mpp"] == pytest.approx(0.5)
    assert zarr_input.zarr_root(["a/zarr.json"]) and not zarr_input.zarr_root(["a/b.tif"])
