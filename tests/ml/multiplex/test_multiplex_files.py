"""Reading multi-channel images: the planes of every format come out as they went in, named and sized as the file says."""

import zipfile

import numpy as np
import pytest
import tifffile
from multiplex_pictures import NAME, PANEL, draw, write_markers, write_ome, write_qptiff, zipped

from ml.multiplex.convert import check_multiplex
from ml.multiplex.files import open_multiplex, without_common_start
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError


def planes_of(path):
    """All planes, read in bands of 37 rows, which end nowhere near a strip or tile."""
    with open_multiplex(path) as opened:
        found = []
        for channel in range(opened.n_channels):
            with opened.plane(channel) as plane:
                rows = [plane.rows(top, min(top + 37, opened.height)) for top in range(0, opened.height, 37)]
            found.append(np.concatenate(rows))
        return opened.names, opened.mpp_xy, np.stack(found)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (64, 96)}, {"compression": "zlib", "rowsperstrip": 50}, {"compression": "zlib", "tile": (128, 128), "subifds": 2}],
    ids=["contiguous", "tiled", "strips", "pyramid"],
)
def test_an_ome_tiff_gives_its_planes_names_and_size(tmp_path, dtype, options):
    picture = draw(dtype=dtype)
    names, mpp, read = planes_of(write_ome(tmp_path / "a.ome.tif", picture, **options))
    assert names == list(PANEL) and mpp == pytest.approx((0.5, 0.5))
    assert read.dtype == picture.dtype and np.array_equal(read, picture)


def test_big_endian_and_predicted_planes_are_the_same_numbers(tmp_path):
    picture = draw()
    for name, options in (("big", {"byteorder": ">"}), ("predicted", {"compression": "zlib", "predictor": True})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, picture, photometric="minisblack", metadata=None, **options)
        _, _, read = planes_of(path)
        assert np.array_equal(read, picture)


def test_samples_of_one_plane_are_channels_too(tmp_path):
    picture = draw()
    for config in ("separate", "contig"):
        path = tmp_path / f"{config}.tif"
        stored = picture if config == "separate" else np.ascontiguousarray(np.moveaxis(picture, 0, 2))
        tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=config, tile=(64, 64), metadata=None)
        assert np.array_equal(planes_of(path)[2], picture), config


def test_a_qptiff_gives_its_full_planes_only(tmp_path):
    picture = draw(dtype="uint8")
    names, mpp, read = planes_of(write_qptiff(tmp_path / "a.qptiff", picture))
    assert names == list(PANEL) and mpp == pytest.approx((0.5, 0.5)) and np.array_equal(read, picture)


def test_an_imagej_stack_has_planes_and_micrometres_but_no_names(tmp_path):
    picture, path = draw(dtype="float32"), tmp_path / "a.tif"
    tifffile.imwrite(path, picture, imagej=True, resolution=(2, 2), metadata={"axes": "CYX", "unit": "um"})
    names, mpp, read = planes_of(path)
    assert names is None and mpp == pytest.approx((0.5, 0.5)) and np.array_equal(read, picture)


def test_one_file_per_marker_as_a_folder_and_as_a_zip(tmp_path):
    picture, names = draw(), ("CD20", "CD3", "aSMA")
    folder = write_markers(tmp_path / "pt1072", picture, names, prefix="pt1072_")
    (folder / "notes.txt").write_text("x")
    for path in (folder, zipped(folder, tmp_path / "a.zip")):
        read_names, _, read = planes_of(path)
        assert read_names == ["aSMA", "CD3", "CD20"]  # 3 before 20; without the start that all share
        assert np.array_equal(read, picture[[2, 1, 0]])
        assert Code.OTHER_FILES in check_multiplex(path).codes


def test_what_marker_names_share_is_dropped_only_up_to_a_separator():
    assert without_common_start(["CD3", "CD31", "CD4"]) == ["CD3", "CD31", "CD4"]
    assert without_common_start(["jane_1_CD3", "jane_1_CD31"]) == ["CD3", "CD31"]
    assert without_common_start(["Jane CD3"]) == ["Jane CD3"]


@pytest.mark.parametrize(
    ("unit", "value", "um"), [("nm", 500.0, 0.5), ("mm", 0.001, 1.0), ("µm", 0.25, 0.25), ("pixel", 0.25, None), ("µm", 0.0, None)]
)
def test_physical_sizes_are_read_in_their_units(tmp_path, unit, value, um):
    path = write_ome(tmp_path / "a.ome.tif", draw(), mpp=None)
    with tifffile.TiffFile(path) as tif:
        text = tif.pages[0].description
    sizes = "".join(f'PhysicalSize{a}="{value}" PhysicalSize{a}Unit="{unit}" ' for a in "XY")
    tifffile.tiffcomment(path, text.replace("<Pixels ", f"<Pixels {sizes}").encode())
    assert planes_of(path)[1] == (None if um is None else pytest.approx((um, um)))


def broken_zip(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archives_that_mean_harm_or_hold_nothing_are_refused(tmp_path):
    cases = {
        Code.ARCHIVE_ESCAPE: broken_zip(tmp_path / "escape.zip", **{"../CD3.tif": b"x"}),
        Code.NOT_MULTIPLEX: broken_zip(tmp_path / "text.zip", **{"a.txt": b"x"}),
        Code.TIFF_BROKEN: broken_zip(tmp_path / "broken.zip", **{"CD3.tif": b"II*\x00" + b"\xff" * 40}),
    }
    for code, path in cases.items():
        report = check_multiplex(path)
        assert (report.state, report.codes) == ("rejected", {code}), (code, report)


def test_the_name_of_a_single_file_is_nobody_s_channel_until_a_person_says_so(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    write_markers(folder, draw()[:1], ["Jane CD3"])
    for given, codes in ((None, {Code.CHANNEL_NAMES_MISSING}), (["CD3"], set())):
        report = check_multiplex(zipped(folder, tmp_path / "a.zip"), given, mpp=1.0)
        assert {f.code for f in report.findings if f.severity == "error"} == codes
        assert "Jane" not in str(report.facts) + str([f.to_dict() for f in report.findings])


def test_a_zip_of_images_of_different_sizes_is_no_image(tmp_path):
    folder = write_markers(tmp_path / "m", draw())
    tifffile.imwrite(folder / "CD8.tif", draw(1, 200, 200)[0], metadata=None)
    report = check_multiplex(zipped(folder, tmp_path / "a.zip"))
    assert report.state == "rejected" and report.codes == {Code.CHANNELS_DIFFER}


def test_a_copy_that_ends_early_is_told_from_its_last_rows(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", draw(), tile=(64, 64), compression="zlib")
    whole = path.read_bytes()
    for cut in (len(whole) - 5000, len(whole) // 2, 2000):
        path.write_bytes(whole[:cut])
        report = check_multiplex(path)
        assert report.state == "rejected" and report.codes & {Code.TILE_UNREADABLE, Code.TIFF_BROKEN, Code.TRUNCATED}, (cut, report)
    path.write_bytes(whole[:-200])  # only the end of the OME-XML is lost: the planes are whole, their names are asked for
    assert check_multiplex(path).state == "needs attention"


def test_a_file_of_several_files_is_not_completed_from_its_neighbours(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", draw())
    with tifffile.TiffFile(path) as tif:
        text = tif.pages[0].description
    parts = "".join(f'<TiffData FirstC="{c}" IFD="0"><UUID FileName="part{c}.ome.tif">urn:x</UUID></TiffData>' for c in range(3))
    head, _, tail = text.partition("<TiffData")
    tifffile.tiffcomment(path, (head + parts + "</Pixels>" + tail.partition("</Pixels>")[2]).encode())
    write_ome(tmp_path / "part1.ome.tif", draw())
    report = check_multiplex(path)
    assert report.state == "rejected" and Code.COMPANION_MISSING in report.codes


def test_focal_planes_and_colour_pictures_are_refused(tmp_path):
    stack, colour = tmp_path / "stack.ome.tif", tmp_path / "colour.tif"
    tifffile.imwrite(stack, np.zeros((2, 4, 50, 60), np.uint16), ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    tifffile.imwrite(colour, np.zeros((50, 60, 3), np.uint8), photometric="rgb")
    assert check_multiplex(stack).codes == {Code.STACK_NOT_FLAT, Code.IDENTIFIERS_IN_HEADER}
    assert check_multiplex(colour).codes == {Code.NOT_MULTIPLEX}


def test_documents_with_entities_are_not_parsed(tmp_path):
    path = tmp_path / "a.tif"
    text = '<!DOCTYPE x [<!ENTITY a "b">]><OME>&a;</OME>'
    tifffile.imwrite(path, draw(), description=text, photometric="minisblack", metadata=None)
    report = check_multiplex(path)
    assert Code.METADATA_BROKEN in report.codes and report.state == "needs attention"


def test_a_file_that_is_no_tiff_is_named_by_its_content(tmp_path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(SlideError) as refused, open_multiplex(path):
        pass
    assert refused.value.code == Code.UNSUPPORTED_FORMAT and "pdf" in refused.value.sentence
    assert check_multiplex(tmp_path / "none.tif").codes == {Code.FILE_MISSING}


def test_the_patients_name_is_found_and_not_repeated(tmp_path):
    for path in (write_ome(tmp_path / "a.ome.tif", draw()), write_qptiff(tmp_path / "b.qptiff", draw(dtype="uint8"))):
        report = check_multiplex(path)
        assert report.state == "ready" and Code.IDENTIFIERS_IN_HEADER in report.codes
        assert NAME not in str(report.to_dict())
