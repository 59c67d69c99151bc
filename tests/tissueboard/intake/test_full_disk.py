"""A full disk while something comes in: said as such, temporary files are gone, what was received stays and can be tried again."""

import errno
import subprocess
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from slide_files import write_svs

from ml.slides import scrub
from tissueboard.intake.errors import IntakeRefused
from tissueboard.intake.models import Import
from tissueboard.intake.services import confirm_import, import_slide, receive_upload
from tissueboard.jobs.models import Job
from tissueboard.slides.models import Slide


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def full(monkeypatch):
    """`full("shutil.copyfile")`: that call fails as on a full disk until `monkeypatch` is undone."""

    def fill(name):
        def fail(*_args, **_options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(name, fail)

    return fill


@pytest.fixture
def svs(tmp_path) -> Path:
    return write_svs(tmp_path / "a.svs")


def refused(call) -> IntakeRefused:
    with pytest.raises(IntakeRefused) as refusal:
        call()
    assert (refusal.value.code, refusal.value.status) == ("DISK_FULL", 507) and refusal.value.hint.endswith(".")
    return refusal.value


def test_an_upload_that_does_not_fit_leaves_nothing(people, cohort, store_folder, svs, monkeypatch):
    class Full(SimpleUploadedFile):
        def chunks(self, chunk_size=None):
            yield b"x" * 100
            raise OSError(errno.ENOSPC, "No space left on device")

    refused(lambda: receive_upload(people["contributor"], cohort, Full("a.svs", b"x"), "slide"))
    assert not Import.objects.exists() and files_in(store_folder) == []


def test_an_original_that_cannot_be_sealed_waits_as_an_upload(people, cohort, store_folder, svs, full, monkeypatch, run_jobs):
    received = receive_upload(people["contributor"], cohort, SimpleUploadedFile("a.svs", svs.read_bytes()), "slide")
    with monkeypatch.context():
        full("tissueboard.intake.sealing.shutil.copyfile")
        run_jobs()
        row, job = Import.objects.get(pk=received.pk), Job.objects.get(pk=received.job_id)
        assert (row.state, row.findings[0]["code"], row.dry_run) == ("needs attention", "DISK_FULL", True)
        assert (job.state, job.error_code) == ("failed", "DISK_FULL")
        assert files_in(store_folder) == [row.key] and not Slide.objects.exists()
        monkeypatch.undo()
    from django.conf import settings

    settings.STORE_ROOT = store_folder
    confirm_import(people["contributor"], row)
    run_jobs()
    assert Import.objects.get(pk=received.pk).state == "ready" and Slide.objects.get().state == "ready"


def test_the_child_that_writes_the_working_slide_says_it(tmp_path, svs, full, capsys):
    full("tifffile.TiffWriter.write")
    assert scrub.main([str(svs), str(tmp_path / "out" / "w.tif")]) == 0
    assert '"DISK_FULL"' in capsys.readouterr().out and files_in(tmp_path / "out") == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: `small_disk(bytes)` gives its folder. Skipped where mounting is not allowed."""
    mounted = []

    def mount(size: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("a small file system cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def test_a_working_slide_that_does_not_fit_leaves_the_sealed_original_waiting(cohort, small_disk, settings, svs):
    page = 4096
    room = -(-svs.stat().st_size // page) * page
    settings.STORE_ROOT = small_disk(room + 6 * page)
    refused(lambda: import_slide(None, cohort, svs))
    slide = Slide.objects.get()
    assert slide.state == "needs attention" and "DISK_FULL" in {f["code"] for f in slide.findings} and slide.working_key == ""
    assert files_in(settings.STORE_ROOT) == [slide.sealed_key] and Import.objects.get().state == "needs attention"
    subprocess.run(["mount", "-o", f"remount,size={room * 20}", settings.STORE_ROOT], check=True)
    again = import_slide(None, cohort, svs)
    assert again.state == "ready" and again.slide == slide and Slide.objects.get().working_sha256
