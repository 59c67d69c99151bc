"""Cells of an image: kept whole or not at all, without texts that may identify; what looks wrong waits, and nothing is lost."""

import errno

import numpy as np
import pandas as pd
import pytest
import tifffile
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from multiplex_pictures import NAME, image_of, small_labels

from ml.multiplex.read import read_image
from ml.slides.findings import FindingCode as Code
from tissueboard.accounts.models import AccessLog
from tissueboard.assays.cells import CellsAsked, add_cells, cell_table, confirm_cells, mask_labels, receive_cells, remove_cells
from tissueboard.assays.errors import AssayRefused
from tissueboard.assays.models import CellMask, MultiplexImage
from tissueboard.assays.selectors import cell_mask_of, waiting_cells_of
from tissueboard.assays.services import tile_token
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.store import store

pytestmark = pytest.mark.usefixtures("store_folder")
in_this_process = pytest.mark.usefixtures("cells_here")


@pytest.fixture
def image(people):
    return image_of(people.lung.sample)


@pytest.fixture
def mask(tmp_path):
    """A TIFF under the patient's name."""
    tifffile.imwrite(tmp_path / f"{NAME}_mask.tiff", small_labels().astype(np.uint16))
    return tmp_path / f"{NAME}_mask.tiff"


@pytest.fixture
def table(tmp_path):
    """A row for each of the first 90 cells, and one for a cell that is not there."""
    ids = [*np.unique(small_labels())[1:91], 1000]
    frame = pd.DataFrame({"Image": NAME, "Object": ids, "area": 144.0, "cell_type": ["T", "B"] * 45 + ["T"]})
    frame.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path / "cells.csv"


def codes(findings):
    return [one["code"] if isinstance(one, dict) else str(one.code) for one in findings]


def test_a_mask_and_a_table_are_kept_and_read_back(people, image, mask, table):
    """Through the child process, as it runs in production."""
    found = add_cells(people.contributor, image, mask, table)
    cells = cell_mask_of(people.viewer, image)
    assert found.state == "ready" and found.cells == cells and cells.n_cells == 99 and cells.created_by == people.contributor
    assert np.array_equal(mask_labels(cells), small_labels())
    rows = cell_table(cells)
    assert len(rows) == 91 and list(rows.columns) == ["cell_id", "cell_type", "area"]
    assert codes(cells.findings) == [Code.CELLS_WITHOUT_MASK, Code.CELLS_WITHOUT_ROW, Code.IDENTIFIERS_IN_HEADER]
    assert cells.facts["table"]["types"] == {"cell_type": {"T": 46, "B": 45}} and cells.facts["mask"]["median_um2"] == 36
    kept = str([cells.findings, cells.facts, cells.key, rows.to_csv()])
    assert NAME not in kept and "ROSENTHAL" not in kept
    log = AccessLog.objects.get(verb="add cells")
    assert (log.username, log.patient_code) == ("contributor", image.sample.patient.code)
    taken = read_image(store.path(image.key), um_per_px=1.0, mask=mask_labels(cells))
    assert taken.mask.shape == taken.values.shape[1:] == (150, 200) and len(np.unique(taken.mask)) == 100
    assert list((store.root / ".tmp").iterdir()) == []


@in_this_process
def test_an_implausible_size_waits_and_takes_nobodys_place(people, image, mask, table):
    before = add_cells(people.contributor, image, mask).cells
    MultiplexImage.objects.filter(pk=image.pk).update(mpp=0.1)
    image.refresh_from_db()
    found = add_cells(people.contributor, image, mask, table)
    assert found.state == "needs attention" and codes(found.findings)[0] == Code.CELL_AREA_IMPLAUSIBLE
    assert cell_mask_of(people.viewer, image) == before and waiting_cells_of(people.viewer, image) == found.cells
    with pytest.raises(RoleMissing):
        confirm_cells(people.viewer, image)
    confirm_cells(people.contributor, image)
    cells = cell_mask_of(people.viewer, image)
    assert cells == found.cells and cells.findings[0]["severity"] == "warning" and "contributor" in cells.findings[0]["hint"]
    assert waiting_cells_of(people.viewer, image) is None and CellMask.objects.get(pk=before.pk).replaced_at is not None
    with pytest.raises(AssayRefused) as nothing:
        confirm_cells(people.contributor, image)
    assert nothing.value.status == 409
    assert add_cells(people.contributor, image, mask, asked=CellsAsked(confirmed=True)).state == "ready"


@in_this_process
def test_newer_cells_replace_older_ones_which_stay_as_history(people, image, mask, table):
    first = add_cells(people.contributor, image, mask).cells
    assert cell_table(first) is None
    second = add_cells(people.contributor, image, None, table).cells
    assert second.key == first.key and second.table_key and cell_mask_of(people.viewer, image) == second
    remove_cells(people.contributor, image)
    assert cell_mask_of(people.viewer, image) is None and CellMask.objects.filter(image=image).count() == 2
    with pytest.raises(AssayRefused) as none:
        add_cells(people.contributor, image, None, table)
    assert none.value.code == "NO_CELLS"
    with pytest.raises(AssayRefused):
        remove_cells(people.contributor, image)


@in_this_process
def test_what_is_wrong_is_refused_and_nothing_is_kept(people, image, mask, table, tmp_path):
    tifffile.imwrite(tmp_path / "small.tiff", small_labels()[:299].astype(np.uint16))
    other = tmp_path / "other.csv"
    other.write_text("cell_id,area\n100000,4\n")
    cases = [
        ((tmp_path / "small.tiff",), Code.MASK_SIZE_DIFFERS),
        ((mask, other), Code.CELLS_WITHOUT_MASK),
        ((table,), Code.MASK_UNREADABLE),
        ((mask, mask), Code.CELL_TABLE_UNREADABLE),
        ((None, None), "NOTHING_GIVEN"),
        ((tmp_path / "none.tif",), Code.FILE_MISSING),
    ]
    for files, code in cases:
        with pytest.raises(AssayRefused) as refused:
            add_cells(people.contributor, image, *files)
        assert refused.value.code == code, files
    dry = add_cells(people.contributor, image, mask, table, dry_run=True)
    assert dry.state == "checked" and dry.cells is None and dry.facts["mask"]["n_cells"] == 99
    assert not CellMask.objects.exists() and not (store.root / "assays" / str(image.pk) / "cells").exists()
    waiting = image_of(people.lung.sample, "needs attention")
    with pytest.raises(AssayRefused) as early:
        add_cells(people.contributor, waiting, mask)
    assert early.value.status == 409
    with pytest.raises(RoleMissing):
        add_cells(people.viewer, image, mask)
    with pytest.raises(NotVisible):
        add_cells(people.outsider, image, mask)
    assert cell_mask_of(people.outsider, image) is None


@in_this_process
def test_a_full_disk_and_a_too_large_file_are_told(people, image, mask, settings, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    upload = SimpleUploadedFile("mask.tiff", mask.read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "save", full)
        with pytest.raises(AssayRefused) as refused:
            add_cells(people.contributor, image, mask)
    assert refused.value.code == Code.DISK_FULL and refused.value.status == 507
    settings.UPLOAD_MAX_BYTES = 100
    with pytest.raises(AssayRefused) as large:
        receive_cells(people.contributor, image, upload, None, {})
    assert large.value.status == 413 and list((store.root / ".tmp").iterdir()) == []


@in_this_process
def test_outlines_are_drawn_for_whoever_holds_a_token(people, image, mask, client):
    token = tile_token(people.viewer, image)
    address = f"/assays/tiles/{image.pk}/{token}/cells/0/0_0.png"
    assert client.get(address).status_code == 404
    add_cells(people.contributor, image, mask)
    answer = client.get(address)
    assert answer.status_code == 200 and answer["Content-Type"] == "image/png" and "private" in answer["Cache-Control"]
    assert client.get(address, headers={"if-none-match": answer["ETag"]}).status_code == 304
    assert client.get(address.replace("/0/0_0", "/0/9_9")).status_code == 404
    assert client.get(f"/assays/tiles/{image.pk}/{token[:-1]}x/cells/0/0_0.png").status_code == 404
    (store.path(cell_mask_of(people.viewer, image).key) / "c" / "0" / "0").unlink()
    cache.clear()
    assert client.get(address).json()["code"] == Code.MASK_UNREADABLE
    remove_cells(people.contributor, image)
    assert client.get(address).status_code == 404


@in_this_process
def test_rest_takes_and_gives_cells(people, image, mask, table):
    address = f"/api/v1/assays/{image.pk}/cells/"
    sent = {"mask": SimpleUploadedFile("m.tiff", mask.read_bytes()), "table": SimpleUploadedFile("c.csv", table.read_bytes())}
    answer = people.api("contributor").post(address, sent, format="multipart")
    assert answer.status_code == 201 and answer.json()["state"] == "ready" and answer.json()["cells"]["n_cells"] == 99
    seen = people.api("viewer").get(address).json()
    assert seen["cells"]["table"]["n_rows"] == 91 and seen["waiting"] is None
    wrong = people.api("contributor").post(address, {"mask": SimpleUploadedFile("m.tiff", b"II*\x00no")}, format="multipart")
    assert wrong.status_code == 400 and wrong.json()["code"] == Code.MASK_UNREADABLE
    (store.path(CellMask.objects.get().table_key)).write_bytes(b"changed")
    with pytest.raises(AssayRefused) as changed:
        cell_table(CellMask.objects.get())
    assert changed.value.code == "FILE_CHANGED"


@in_this_process
def test_the_command_brings_cells_in(people, image, mask, table, capsys):
    call_command("import_cells", "lung", image.name, "--mask", mask, "--table", table, "--dry-run")
    assert not CellMask.objects.exists()
    call_command("import_cells", "lung", image.name, "--mask", mask, "--table", table, "--user", "contributor")
    assert "99 cells, 91 rows; ready" in capsys.readouterr().out and CellMask.objects.get().created_by == people.contributor
    for wrong in (("nothing", image.name), ("lung", "M-nothing"), ("lung", image.name, "--user", "nobody"), ("lung", image.name)):
        with pytest.raises(CommandError):
            call_command("import_cells", *wrong)
