"""Real images of measured channels: what the check says of each, and that the pyramid is the file."""

import csv

import numpy as np
import pytest
import tifffile
import zarr

from ml.multiplex.convert import check_multiplex, convert_multiplex
from ml.multiplex.zarr_pyramid import Shown, halve, render_tile
from ml.slides.check import check_slide
from ml.slides.findings import FindingCode as Code

pytestmark = pytest.mark.realdata
IMC = "imc/imc_testdata/20210305_NE_mockData1"
ASKED_NAMES, ASKED_MPP = Code.CHANNEL_NAMES_MISSING, Code.MPP_MISSING


@pytest.mark.parametrize(
    ("file", "state", "format_", "n", "dtype", "asked"),
    [
        ("wsi/cells-2c.ome.tif", "needs attention", "OME-TIFF", 2, "uint8", {ASKED_NAMES}),
        ("wsi/multi-channel.ome.tif", "needs attention", "OME-TIFF", 3, "int8", {ASKED_NAMES, ASKED_MPP}),
        ("wsi/small_vectra.qptiff", "ready", "QPTIFF", 3, "uint8", set()),
        ("imc/vectra_fihc4/FIHC4__0929309_HP_IM3_2_component_data.tif", "ready", "QPTIFF", 5, "float32", set()),
        ("imc/pancreas_imc/E34_imc.tiff", "needs attention", "TIFF", 5, "float32", {ASKED_NAMES, Code.MPP_IMPLAUSIBLE}),
        ("imc/mibi_dcis/Point2203_pt1072_31606", "needs attention", "TIFF per marker", 41, "uint8", {Code.MPP_IMPLAUSIBLE}),
        (f"{IMC}/ome_001.ome.tiff", "needs attention", "OME-TIFF", 5, "float32", {ASKED_MPP}),
        (f"{IMC}/img_001.tiff", "needs attention", "ImageJ", 5, "float32", {ASKED_NAMES, ASKED_MPP}),
        ("malformed/bad_ome_xml.ome.tif", "rejected", "TIFF", 3, "int64", {Code.DTYPE_UNSUPPORTED}),
    ],
)
def test_what_is_asked_of_a_person(data, file, state, format_, n, dtype, asked):
    report = check_multiplex(data / file)
    assert (report.state, report.facts["format"], report.facts["n_channels"], report.facts["dtype"]) == (state, format_, n, dtype)
    assert {f.code for f in report.findings if f.severity == "error"} == asked
    assert Code.METADATA_BROKEN in report.codes or file != "malformed/bad_ome_xml.ome.tif"


@pytest.mark.parametrize("file", ["wsi/kidney-48-5.tif", "wsi/cells.ome.tif", "wsi/cmu-1-small-region.svs"])
def test_a_stained_slide_is_no_multiplex_image(data, file):
    assert Code.NOT_MULTIPLEX in check_multiplex(data / file).codes


@pytest.mark.parametrize("file", ["wsi/cells-2c.ome.tif", "wsi/small_vectra.qptiff", "imc/pancreas_imc/E34_imc.tiff"])
def test_a_slide_import_of_one_points_to_the_right_import(data, file):
    found = next(f for f in check_slide(data / file).findings if f.code == Code.ASSAY_IMAGE)
    assert "import_multiplex" in found.hint


def panel(data):
    with (data / "imc/imc_testdata/panel.csv").open() as stream:
        return [f"{row['channel']}_{row['name']}" for row in csv.DictReader(stream)]


def test_names_of_the_panel_are_those_in_the_ome_tiff(data):
    for number in (1, 2, 3):
        assert check_multiplex(data / IMC / f"ome_00{number}.ome.tiff").facts["channels"] == panel(data)


@pytest.mark.parametrize(
    ("file", "channels", "mpp"),
    [
        ("wsi/cells-2c.ome.tif", ["red", "green"], None),
        ("wsi/multi-channel.ome.tif", ["a", "b", "c"], 1.0),
        ("imc/pancreas_imc/E34_imc.tiff", ["H3", "CD99", "PIN", "CD8a", "CDH"], 1.0),
        (f"{IMC}/ome_002.ome.tiff", None, 1.0),
        (f"{IMC}/img_003.tiff", ["1a", "2b", "3c", "4d", "5e"], 1.0),
        ("wsi/small_vectra.qptiff", None, None),
        ("imc/vectra_fihc4/FIHC4__0929309_HP_IM3_2_component_data.tif", None, None),
    ],
)
def test_the_pyramid_is_the_file(data, tmp_path, file, channels, mpp):
    facts = convert_multiplex(data / file, tmp_path / "a.zarr", channels, mpp)
    stored = tifffile.imread(data / file)[: facts["n_channels"]]
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    level = np.asarray(group["0"][:])
    assert level.dtype == stored.dtype and np.array_equal(level, stored)
    for found, plane in zip(facts["signal"], stored):
        assert (found["min"], found["max"]) == (plane.min(), plane.max()) and found["mean"] == pytest.approx(plane.mean(dtype=float))
    if "1" in group:
        assert np.array_equal(np.asarray(group["1"][:]), np.stack([halve(plane) for plane in stored]))
    assert render_tile(tmp_path / "a.zarr", 0, 0, 0, [Shown(0, "ffffff", facts["signal"][0]["low"], facts["signal"][0]["high"])])


def test_one_tiff_per_marker_is_one_image_named_by_its_files(data, tmp_path):
    folder = data / "imc/mibi_dcis/Point2203_pt1072_31606"
    facts = convert_multiplex(folder, tmp_path / "a.zarr", mpp=0.39)
    assert sorted(facts["channels"]) == sorted(path.stem for path in folder.glob("*.tif")) and facts["n_channels"] == 41
    level = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["0"]
    for name in ("HH3", "CD3", "PanKRT"):
        assert np.array_equal(level[facts["channels"].index(name)], tifffile.imread(folder / f"{name}.tif"))
    rare = facts["signal"][facts["channels"].index("CD20")]
    assert rare["max"] == 8 and "minimum and maximum" in rare["limits_by"]


@pytest.mark.parametrize("file", ["wsi/small_vectra.qptiff", "imc/vectra_fihc4/FIHC4__0929309_HP_IM3_2_component_data.tif"])
def test_slide_and_computer_names_of_a_qptiff_stay_behind(data, tmp_path, file):
    with tifffile.TiffFile(data / file) as tif:
        head = tif.pages[0].description
    secrets = [head.split(f"<{tag}>")[1].split("<")[0] for tag in ("SlideID", "ComputerName")]
    report = check_multiplex(data / file)
    convert_multiplex(data / file, tmp_path / "a.zarr")
    written = b"".join(p.read_bytes() for p in (tmp_path / "a.zarr").rglob("zarr.json"))
    said = str({**report.to_dict(), "file": "", "findings": [f.to_dict() | {"file": ""} for f in report.findings]})
    for secret in secrets:
        assert secret and secret.encode() not in written and secret not in said
