"""A stack and its panel: kept channels only or all of them; numbers that do not fit are both named."""

import shutil

import pytest
import tifffile
from multiplex_pictures import draw, zipped

from ml.multiplex.convert import check_multiplex
from ml.multiplex.panels import PanelRow, is_panel, names_by_panel, read_panel
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError

STEINBOCK = "channel,name,keep,ilastik\nIr191,DNA1,1,1\nPr141,CD3,1,\nNd142,,1,\nY89,Blank,0,\n"


@pytest.fixture
def stack(tmp_path):
    """A folder with a stack of three planes and a panel of four rows, one of them not kept."""
    (tmp_path / "Rosenthal_1").mkdir()
    tifffile.imwrite(tmp_path / "Rosenthal_1" / "Rosenthal_1.tiff", draw(), photometric="minisblack", metadata=None)
    (tmp_path / "Rosenthal_1" / "panel.csv").write_text(STEINBOCK)
    return tmp_path / "Rosenthal_1"


def codes(report):
    return {str(finding.code) for finding in report.findings}


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_the_kept_rows_name_the_planes(stack, tmp_path, as_zip):
    report = check_multiplex(zipped(stack, tmp_path / "a.zip") if as_zip else stack, mpp=1.0)
    assert report.state == "ready" and report.facts["channels"] == ["DNA1", "CD3", "Nd142"] and report.facts["names_source"] == "panel"
    assert report.facts["format"] == "TIFF" and report.facts["n_channels"] == 3


def test_all_rows_name_the_planes_where_the_stack_holds_all(stack):
    tifffile.imwrite(stack / "Rosenthal_1.tiff", draw(4), photometric="minisblack", metadata=None)
    assert check_multiplex(stack, mpp=1.0).facts["channels"] == ["DNA1", "CD3", "Nd142", "Blank"]


def test_other_numbers_are_refused_with_both(stack):
    tifffile.imwrite(stack / "Rosenthal_1.tiff", draw(5), photometric="minisblack", metadata=None)
    report = check_multiplex(stack, mpp=1.0)
    assert report.state == "needs attention" and codes(report) >= {Code.CHANNEL_COUNT_DIFFERS}
    (wrong,) = (f for f in report.findings if f.code == Code.CHANNEL_COUNT_DIFFERS)
    assert "5 channels" in wrong.sentence and "4 rows, 3 of them kept" in wrong.sentence
    assert check_multiplex(stack, list("abcde"), 1.0).state == "ready"


def test_a_panel_given_with_the_image_wins_over_the_one_beside_it(stack):
    given = [["a", True], ["b", True], ["c", True]]
    assert check_multiplex(stack, mpp=1.0, panel=given).facts["channels"] == ["a", "b", "c"]
    assert check_multiplex(stack, ["x", "y", "z"], 1.0, given).facts["channels"] == ["x", "y", "z"]


def test_a_panel_that_cannot_be_read_is_told_and_a_person_names_the_channels(stack):
    (stack / "panel.csv").write_bytes(b"\xff\xfe\x00bad")
    report = check_multiplex(stack, mpp=1.0)
    assert report.state == "needs attention" and codes(report) >= {Code.PANEL_UNREADABLE, Code.CHANNEL_NAMES_MISSING}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\ufeffchannel;name;keep\nA;x;1\nB;y;\nC;z;False\n", ["x", "y"]),
        ("cycle_number,channel_number,marker_name\n1,1,DNA\n1,2,CD3\n", ["DNA", "CD3"]),
        ("Channel,keep\nIr191,1\nY89,0\n", ["Ir191"]),
    ],
)
def test_panels_as_programs_write_them(text, names):
    assert [row.name for row in read_panel(text.encode()) if row.keep] == names


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"name\n", b"\x80\x81", b"x" * (2 << 20), b'name\n"open\n'])
def test_what_is_no_panel_is_refused(data):
    with pytest.raises(SlideError) as refused:
        read_panel(data)
    assert refused.value.code == Code.PANEL_UNREADABLE


def test_which_files_are_panels():
    assert is_panel("a/Panel.csv") and is_panel("markers.csv") and not is_panel("cells.csv") and not is_panel("panel.txt")
    assert names_by_panel([PanelRow("a"), PanelRow("b", False)], 2) == ["a", "b"]


def test_the_real_stack_of_steinbock(data, tmp_path):
    source = data / "imc/imc_testdata"
    (tmp_path / "roi").mkdir()
    shutil.copy(source / "20210305_NE_mockData1/img_002.tiff", tmp_path / "roi")
    shutil.copy(source / "panel.csv", tmp_path / "roi")
    report = check_multiplex(tmp_path / "roi", mpp=1.0)
    assert report.facts["channels"] == ["Ag107", "Cytokeratin 5", "Laminin", "YBX1", "H3K27Ac"] and report.state == "ready"
    assert codes(report) >= {Code.TOO_SMALL_FOR_CROPS}
