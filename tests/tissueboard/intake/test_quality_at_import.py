"""What an import says about how well a slide can be read, and what becomes of one whose tiles are damaged inside."""

import numpy as np
import pytest
import tifffile
from pen_strokes import with_stroke
from slide_files import draw, write_svs

from ml.slides.quality_limits import MEANING
from tissueboard.intake.services import import_slide
from tissueboard.slides.integrity import STAMP, check_unchanged
from tissueboard.slides.models import Slide
from tissueboard.store import checksum, store


def write(path, picture):
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            picture, tile=(256, 256), photometric="rgb", compression="jpeg", compressionargs={"level": 90}, metadata=None,
            resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
        )  # fmt: skip
    return path


def test_a_ready_slide_knows_its_quality_and_its_file(cohort, store_folder, tmp_path):
    result = import_slide(None, cohort, write_svs(tmp_path / "a.svs"))
    slide = Slide.objects.get()
    assert result.state == "ready" and set(slide.facts["quality"]) == set(MEANING) and slide.facts["quality"]["pen_share"] == 0
    assert slide.facts[STAMP]["size"] == store.path(slide.working_key).stat().st_size
    check_unchanged(slide)


def test_ink_is_a_warning_that_does_not_block(cohort, store_folder, tmp_path):
    drawn, where = with_stroke(draw(), "green", seed=1, radius=80)
    result = import_slide(None, cohort, write(tmp_path / "a.tif", drawn))
    found = next(f for f in result.findings if f.code == "PEN_MARKS")
    slide = Slide.objects.get()
    assert result.state == slide.state == "ready" and found.severity == "warning"
    assert slide.facts["quality"]["pen_share"] == pytest.approx(where.mean(), rel=0.5)
    assert slide.facts["pen_share"] == pytest.approx(slide.facts["quality"]["pen_share"], rel=0.1)
    assert "PEN_MARKS" in {f["code"] for f in slide.findings}


def test_a_tile_damaged_inside_waits_with_its_place_and_nothing_is_lost(cohort, store_folder, tmp_path):
    whole = write(tmp_path / "whole.tif", np.tile(draw(), (4, 4, 1)))
    with tifffile.TiffFile(whole) as tif:
        page = tif.pages[0]
        index = 4 * -(-page.imagewidth // 256) + 6
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    content = bytearray(whole.read_bytes())
    content[offset : offset + count] = bytes(count)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(content)
    result = import_slide(None, cohort, broken)
    slide = Slide.objects.get()
    found = next(f for f in result.findings if f.code == "TILE_DAMAGED")
    assert result.state == slide.state == "needs attention" and "x 1536, y 1024 px0" in found.where
    assert checksum(store.path(slide.sealed_key)) == checksum(broken), "what was sent is kept as it came"
