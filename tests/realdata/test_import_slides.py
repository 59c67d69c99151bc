"""import_slides on real and on hostile files: each gets the state that tests/realdata/test_slide_checks.py states, and nothing stops."""

import importlib.util
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from ml.slides.scrub import residual_identifiers
from tissueboard.accounts.models import User
from tissueboard.cohorts.models import Patient
from tissueboard.intake.models import Import
from tissueboard.slides.models import Slide
from tissueboard.store import checksum, store

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def expected() -> dict:
    """The table of verdicts, owned by the tests of the check."""
    spec = importlib.util.spec_from_file_location("table_of_verdicts", Path(__file__).with_name("test_slide_checks.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPECTED


@pytest.fixture
def store_folder(settings, tmp_path) -> Path:
    settings.STORE_ROOT = tmp_path / "store"
    return settings.STORE_ROOT


def imported(folder: Path, report: Path, *arguments: str) -> dict[str, dict]:
    """The report of `import_slides FOLDER --cohort real ...` by file."""
    call_command("import_slides", str(folder), "--cohort", "real", "--report", str(report), *arguments, stdout=StringIO())
    return {entry["file"]: entry for entry in json.loads(report.read_text())}


def sealed_files(store_folder: Path) -> int:
    return sum(p.is_file() for p in (store_folder / "sealed").rglob("*"))


def test_every_real_slide_gets_its_state(db, data, expected, tmp_path, store_folder):
    report = imported(data / "wsi", tmp_path / "r.json", "--create-cohort")
    table = {name.removeprefix("wsi/"): verdict for name, verdict in expected.items() if name.startswith("wsi/")}
    assert {name: entry["state"] for name, entry in report.items()} == {name: state for name, (state, _, _) in table.items()}
    for name, (_, code, _) in table.items():
        assert code in {finding["code"] for finding in report[name]["findings"]}, name
    kept = [name for name, (state, _, _) in table.items() if state != "rejected"]
    assert Slide.objects.count() == len(kept) == sealed_files(store_folder) and Import.objects.count() == len(table)

    cmu = Slide.objects.get(sealed_sha256=checksum(data / "wsi/cmu-1-small-region.svs"))
    assert (cmu.state, cmu.width, cmu.height) == ("ready", 2220, 2967) and cmu.mpp == pytest.approx(0.499)
    assert checksum(store.path(cmu.sealed_key)) == cmu.sealed_sha256
    assert residual_identifiers(store.path(cmu.working_key), ["CMU-1", "CPAPERIOCS", "12/29/09"]) == []

    frozen = Slide.objects.get(sample__patient__code="TCGA-CR-7395")
    assert frozen.state == "needs attention" and frozen.sample.code == "01A"
    again = imported(data / "wsi" / "tcga-cr-7395-01a-01-ts1.svs", tmp_path / "r.json", "--mpp", "0.5")
    frozen.refresh_from_db()
    assert again["tcga-cr-7395-01a-01-ts1.svs"]["state"] == frozen.state == "ready"
    assert (frozen.mpp, frozen.mpp_source, frozen.width) == (0.5, "override", 4443)
    assert frozen.facts["colour_profile"] and not cmu.facts["colour_profile"], "only one of them states its scanner's colours"


def test_nothing_malformed_becomes_ready_and_each_has_a_coded_finding(db, data, expected, tmp_path, store_folder):
    report = imported(data / "malformed", tmp_path / "r.json", "--create-cohort")
    table = {name.removeprefix("malformed/"): verdict for name, verdict in expected.items() if name.startswith("malformed/")}
    assert {name: entry["state"] for name, entry in report.items()} == {name: state for name, (state, _, _) in table.items()}
    for name, entry in report.items():
        errors = [f for f in entry["findings"] if f["severity"] == "error"]
        assert entry["state"] != "ready" and errors, name
        assert all(f["sentence"].endswith(".") and f["hint"] for f in entry["findings"]), name
        assert table[name][1] in {f["code"] for f in entry["findings"]}, name
    waiting = [entry for entry in report.values() if entry["state"] == "needs attention"]
    assert Slide.objects.count() == len(waiting) == sealed_files(store_folder), "of a rejected file no bytes are kept"
    assert str(data) not in json.dumps(report) and "TCGA-XK-AAJU" not in json.dumps(list(Patient.objects.values()), default=str)


def test_hostile_uploads_do_not_stop_the_worker(transactional_db, start_worker, data):
    from live_worker import wait_for

    from tissueboard.cohorts.services import create_cohort
    from tissueboard.intake.services import receive_upload
    from tissueboard.jobs.models import Job

    user = User.objects.create_user("sender")
    cohort = create_cohort(user, "real")
    worker = start_worker(queues=("io",))
    pool = set(worker.pool())
    names = ["unreadable.svs", "unopenable.tiff", "zero_gi.tif", "tar_with_sym_link.tar", "nuclear_medicine.dcm", "broken.svs"]
    paths = [*(data / "malformed" / name for name in names), data / "wsi/cmu-1-small-region.svs"]
    sent = [receive_upload(user, cohort, SimpleUploadedFile(path.name, path.read_bytes()), "slide") for path in paths]
    wait_for(
        lambda: Job.objects.filter(state="succeeded").count() == len(sent), 120, lambda: worker.log.read_text()[-3000:], worker.process
    )
    assert [Import.objects.get(pk=i.pk).state for i in sent] == ["rejected"] * len(names) + ["ready"]
    assert set(worker.pool()) == pool, "the same process did all of them"
