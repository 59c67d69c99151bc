"""Which DICOM files are one slide, which is the main one, what is missing and what stays out; decided by headers, never by names."""

import shutil

import pytest
from dicom_slides import new_series, write_instance, write_series
from slide_files import draw

from ml.slides.check import check_slide
from ml.slides.dicom_series import left_out_findings, main_of, parts_of, series_findings
from ml.slides.findings import FindingCode as Code
from ml.slides.reader import open_slide
from ml.slides.sniff import companion_of


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Three levels, a label and an overview: [finest, middle, coarsest, label, overview]."""
    return write_series(tmp_path_factory.mktemp("series"), draw())


def test_the_finest_level_is_the_slide_and_the_others_belong_to_it(series):
    finest, middle, coarsest, label, _ = series
    assert [main_of(path) for path in series] == [finest, finest, finest, None, None]
    assert parts_of(finest) == [middle, coarsest] and parts_of(middle) == []
    assert companion_of(finest) is None and companion_of(coarsest) == finest and companion_of(label) is None
    with open_slide(finest) as slide:
        assert slide.levels == pytest.approx((1, 2, 4), rel=0.01) and slide.mpp == pytest.approx(0.5)


def test_label_and_overview_are_named_as_left_out(series):
    (found,) = left_out_findings(series[0])
    assert (found.code, found.severity, found.where) == (Code.DICOM_LEFT_OUT, "info", "LABEL, OVERVIEW")
    assert found.sentence.startswith("2 files") and found.sentence.endswith(".")


def test_another_series_or_pyramid_in_the_same_folder_is_another_slide(tmp_path):
    one = write_series(tmp_path, draw(), factors=(1, 2), label=False)
    shared = new_series()
    a = write_instance(tmp_path / "a.dcm", draw(1), shared, 0.5, PyramidUID="1.2.3")
    b = write_instance(tmp_path / "b.dcm", draw(2), shared, 0.5, PyramidUID="1.2.4")
    assert main_of(one[1]) == one[0] and [main_of(path) for path in (a, b)] == [a, b]


def test_a_level_without_the_finest_says_what_is_missing(series, tmp_path):
    alone = tmp_path / "alone.dcm"
    shutil.copy(series[1], alone)
    (found,) = series_findings(alone)
    assert (found.code, found.severity) == (Code.DICOM_SERIES_PART, "warning") and "series" in found.hint
    assert Code.DICOM_SERIES_PART in check_slide(alone).codes and series_findings(series[0]) == []
    whole = tmp_path / "whole" / "finest.dcm"
    whole.parent.mkdir()
    shutil.copy(series[0], whole)
    assert series_findings(whole) == [], "a finest level alone is a whole slide"


def test_a_missing_part_of_a_split_level_waits(tmp_path):
    shared = new_series()
    for part in (1, 3):
        tags = {"ConcatenationUID": "1.2.9", "InConcatenationNumber": part, "InConcatenationTotalNumber": 3}
        write_instance(tmp_path / f"{part}.dcm", draw(), shared, 0.5, **tags)
    (found,) = series_findings(tmp_path / "1.dcm")
    assert (found.code, found.severity, found.where) == (Code.DICOM_INSTANCE_MISSING, "error", "part 2")
    assert main_of(tmp_path / "3.dcm") == tmp_path / "1.dcm"
    report = check_slide(tmp_path / "1.dcm")
    assert report.state != "ready" and Code.DICOM_INSTANCE_MISSING in report.codes


def test_other_files_are_no_instances(tmp_path, pyramid):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 200)
    assert main_of(tmp_path / "a.dcm") is None and main_of(pyramid) is None and main_of(tmp_path / "gone.dcm") is None
