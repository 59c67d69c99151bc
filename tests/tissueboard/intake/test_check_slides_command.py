"""check_slides: every file by its checksum; a changed working slide is made anew from a whole original, never from a changed one."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from slide_files import write_svs

from tissueboard.accounts.models import AccessLog
from tissueboard.intake.services import import_slide
from tissueboard.slides.integrity import check_unchanged
from tissueboard.slides.models import Slide
from tissueboard.store import checksum, store


@pytest.fixture
def slide(cohort, store_folder, tmp_path) -> Slide:
    import_slide(None, cohort, write_svs(tmp_path / "a.svs"))
    return Slide.objects.get()


@pytest.fixture
def run(cohort, tmp_path):
    """`run("--repair")` gives (ended well, the report's lines)."""

    def call(*arguments):
        path, well = tmp_path / "r.json", True
        try:
            call_command("check_slides", "--cohort", cohort.name, "--report", str(path), *arguments, stdout=StringIO())
        except CommandError as ended:
            well = "changed or missing" not in str(ended)
        return well, json.loads(path.read_text())

    return call


def spoil(key):
    path = store.path(key)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def test_whole_files_are_said_to_be_whole(slide, run):
    well, (line,) = run()
    assert well and (line["slide"], line["sealed"], line["working"], line["findings"]) == (slide.name, "ok", "ok", [])


def test_a_changed_working_slide_is_found_and_made_anew(slide, run):
    spoil(slide.working_key)
    well, (line,) = run()
    assert not well and (line["sealed"], line["working"]) == ("ok", "changed") and line["findings"][0]["code"] == "FILE_CHANGED"
    well, (line,) = run("--repair")
    slide.refresh_from_db()
    assert well and line["working"] == "ok" and checksum(store.path(slide.working_key)) == slide.working_sha256
    assert (slide.state, slide.mpp, slide.width) == ("ready", 0.5, 900) and AccessLog.objects.filter(verb="make slide anew").count() == 1
    check_unchanged(slide)
    assert run() == (True, [line | {"findings": []}])


def test_a_missing_working_slide_too(slide, run):
    store.path(slide.working_key).unlink()
    assert run()[1][0]["working"] == "missing" and run("--repair")[0]


def test_nothing_is_made_from_an_original_that_changed(slide, run):
    before = slide.working_sha256
    spoil(slide.sealed_key)
    spoil(slide.working_key)
    well, (line,) = run("--repair")
    slide.refresh_from_db()
    assert not well and (line["sealed"], line["working"]) == ("changed", "changed") and slide.working_sha256 == before
    store.path(slide.sealed_key).unlink()
    assert run()[1][0]["sealed"] == "missing"


def test_a_waiting_slide_has_its_original_only(cohort, store_folder, tmp_path, run):
    import_slide(None, cohort, write_svs(tmp_path / "a.svs", mpp=None))
    well, (line,) = run()
    assert well and (line["sealed"], line["working"]) == ("ok", "none")


def test_a_cohort_that_is_not_there(db):
    with pytest.raises(CommandError, match="no cohort nowhere"):
        call_command("check_slides", "--cohort", "nowhere", stdout=StringIO())
