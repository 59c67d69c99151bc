"""What the check of a multi-channel image says, and what waits for a person."""

import numpy as np
import pytest
import tifffile
from multiplex_pictures import draw, write_ome

from ml.multiplex.convert import check_multiplex
from ml.multiplex.header import distinct, named
from ml.multiplex.isolated import check_multiplex_isolated
from ml.slides.findings import FindingCode as Code
from ml.slides.isolate import ChildResult


def test_a_sound_image_is_ready_with_its_facts(tmp_path):
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", draw()))
    assert report.state == "ready" and report.codes == {Code.IDENTIFIERS_IN_HEADER}
    facts = report.facts
    assert (facts["width"], facts["height"], facts["n_channels"], facts["dtype"]) == (400, 300, 3, "uint16")
    assert facts["channels"] == ["DAPI", "CD3", "PanCK"] and facts["mpp"] == pytest.approx(0.5) and facts["names_source"] == "file"
    assert [f["n"] for f in facts["signal"]] == [120_000] * 3 and not facts["signal_estimated"]


def test_the_child_says_the_same(tmp_path, monkeypatch):
    path = write_ome(tmp_path / "a.ome.tif", draw(), names=None)
    assert check_multiplex_isolated(path, ["a", "b", "c"], 0.7).to_dict() == check_multiplex(path, ["a", "b", "c"], 0.7).to_dict()
    monkeypatch.setattr("ml.multiplex.isolated.run_isolated", lambda *args: ChildResult("crash", None, "SIGSEGV"))
    assert check_multiplex_isolated(path).codes == {Code.PARSER_CRASHED}


def test_names_and_size_that_are_not_in_the_file_wait_for_a_person_who_can_give_them(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", draw(), names=None, mpp=None)
    report = check_multiplex(path)
    assert report.state == "needs attention" and report.codes >= {Code.CHANNEL_NAMES_MISSING, Code.MPP_MISSING}
    given = check_multiplex(path, [" DAPI ", "CD 3", "x"], 0.65)
    assert given.state == "ready" and given.facts["channels"] == ["DAPI", "CD 3", "x"] and given.facts["mpp_source"] == "override"
    for wrong in (["a", "b"], ["a", "b", "c", "d"], ["a", "", "c"]):
        refused = check_multiplex(path, wrong, 0.65)
        assert (refused.state, refused.codes & {Code.CHANNEL_COUNT_DIFFERS}) == ("needs attention", {Code.CHANNEL_COUNT_DIFFERS}), wrong


@pytest.mark.parametrize(
    ("stated", "given", "code", "state"),
    [
        (0.001, None, Code.MPP_IMPLAUSIBLE, "needs attention"),
        (353.0, None, Code.MPP_IMPLAUSIBLE, "needs attention"),
        (353.0, 0.5, None, "ready"),
        (0.5, 40.0, Code.MPP_IMPLAUSIBLE, "needs attention"),
        (0.5, 1.0, Code.MPP_CONFLICT, "ready"),
        (0.5, 0.52, None, "ready"),
    ],
)
def test_a_size_has_to_be_plausible_and_undisputed(tmp_path, stated, given, code, state):
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", draw(), mpp=stated), mpp=given)
    assert report.state == state and report.codes - {Code.IDENTIFIERS_IN_HEADER} == ({code} if code else set())


def test_pixels_that_are_not_square_wait_for_a_person(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.7}
    tifffile.imwrite(path, draw(), ome=True, metadata=metadata, photometric="minisblack")
    assert Code.MPP_ANISOTROPIC in check_multiplex(path).codes and check_multiplex(path, mpp=0.6).state == "ready"


def test_a_name_that_stands_twice_is_numbered_and_said(tmp_path):
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", draw(), names=("DAPI", "CD3", "DAPI")))
    assert report.facts["channels"] == ["DAPI", "CD3", "DAPI (2)"] and Code.CHANNEL_NAMES_DUPLICATE in report.codes
    assert report.state == "ready"
    assert distinct(["a", "a (2)", "a", "", ""]) == ["a", "a (2)", "a (3)", "channel 4", "channel 5"]


@pytest.mark.parametrize("names", [["0", "1"], ["Channel:0:0", "Channel:0:1"], ["C1", "C2"], ["", ""], ["channel 1", "Ch-2"]])
def test_numbers_name_nothing(names):
    assert named(names) is None


def test_markers_that_look_like_numbers_are_names():
    assert named(["CD3", "p53"]) == ["CD3", "p53"] and named(["c1", "HER2"]) == ["c1", "HER2"]


def test_channels_without_signal_saturated_or_not_finite_are_named(tmp_path):
    picture = draw(4, dtype="float32")
    picture[1], picture[2, 0, 0] = 7.0, np.nan
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", picture, names=("a", "b", "c", "d")))
    found = {f.code: (f.severity, f.where) for f in report.findings}
    assert report.state == "ready"
    assert found[Code.CHANNEL_EMPTY] == ("warning", "b") and found[Code.CHANNEL_NOT_FINITE] == ("warning", "c")
    burnt = draw(dtype="uint8")
    burnt[2, :40] = 255
    report = check_multiplex(write_ome(tmp_path / "b.ome.tif", burnt))
    assert [(f.code, f.where) for f in report.findings if f.severity == "warning"] == [(Code.CHANNEL_SATURATED, "PanCK")]


def test_an_image_without_any_signal_is_refused(tmp_path):
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", np.zeros((3, 60, 60), np.uint16)))
    assert report.state == "rejected" and Code.CHANNEL_EMPTY in report.codes


def test_number_types(tmp_path):
    for dtype, code, state in (("int16", Code.DTYPE_UNUSUAL, "ready"), ("float64", Code.DTYPE_UNUSUAL, "ready")):
        report = check_multiplex(write_ome(tmp_path / "a.ome.tif", draw(dtype=dtype)))
        assert (code in report.codes, report.state) == (True, state), dtype
    path = tmp_path / "long.tif"
    tifffile.imwrite(path, draw(dtype="int64"), metadata=None)
    assert check_multiplex(path, ["a", "b", "c"], 1.0).codes == {Code.DTYPE_UNSUPPORTED}


def test_a_tall_image_is_looked_at_in_bands_and_says_so(tmp_path):
    picture = np.tile(draw(1, 300, 100, "uint8"), (1, 16, 1))
    report = check_multiplex(write_ome(tmp_path / "a.ome.tif", picture, names=("a",), rowsperstrip=64))
    assert report.facts["signal_estimated"] and report.facts["signal"][0]["n"] < picture.size
