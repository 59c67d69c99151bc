"""A job reads a slide only while its file is the imported one; the house's tissue mask is part of what a job's output was made from."""

import json
import os

import numpy as np
import pytest
from django.urls import reverse

from tissueboard.errors import TissueboardError
from tissueboard.slides.integrity import STAMP, check_unchanged
from tissueboard.slides.models import Slide
from tissueboard.slides.services import tile_token
from tissueboard.slides.tiling import grid_of, input_key, inputs_of, mask_of, open_working
from tissueboard.store import store


def refusal(slide, **options):
    with pytest.raises(TissueboardError) as refused:
        check_unchanged(slide, **options)
    assert refused.value.status == 409 and refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")
    return refused.value.code


def test_the_first_look_reads_the_file_and_the_next_only_its_stamp(make_slide, monkeypatch):
    slide = make_slide("P1")
    check_unchanged(slide)
    kept = Slide.objects.get(pk=slide.pk).facts[STAMP]
    assert kept["size"] == store.path(slide.working_key).stat().st_size
    monkeypatch.setattr("tissueboard.slides.integrity.checksum", lambda path: pytest.fail("read again"))
    check_unchanged(Slide.objects.get(pk=slide.pk))


def test_a_file_that_was_only_touched_or_restored_is_the_same(make_slide):
    slide = make_slide("P1")
    check_unchanged(slide)
    os.utime(store.path(slide.working_key), ns=(5, 5))
    check_unchanged(slide)
    assert Slide.objects.get(pk=slide.pk).facts[STAMP]["mtime_ns"] == 5


def test_a_changed_file_is_refused_before_it_is_opened(make_slide):
    slide = make_slide("P1")
    check_unchanged(slide)
    path = store.path(slide.working_key)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert refusal(slide) == "FILE_CHANGED"
    with pytest.raises(TissueboardError, match="not the one that was imported"):
        open_working(slide)
    assert slide.facts[STAMP] != {} and Slide.objects.get(pk=slide.pk).state == "ready", "nothing of the record is lost"


def test_a_change_that_keeps_size_and_time_is_found_by_the_whole_look(make_slide):
    slide = make_slide("P1")
    check_unchanged(slide)
    path, stamp = store.path(slide.working_key), slide.facts[STAMP]
    path.write_bytes(bytes(stamp["size"]))
    os.utime(path, ns=(stamp["mtime_ns"],) * 2)
    check_unchanged(slide)
    assert refusal(slide, whole=True) == "FILE_CHANGED"


def test_a_file_that_is_gone(make_slide):
    slide = make_slide("P1")
    store.path(slide.working_key).unlink()
    assert refusal(slide) == "FILE_MISSING"


@pytest.fixture
def learned(settings, tmp_path):
    """The house uses a network that calls every pixel tissue."""
    import torch
    from safetensors.torch import save_file

    from ml.slides.mask_network import UNet
    from ml.slides.masks import HEST_CONFIG

    network = UNet(2, 2, 1)
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([0.0, 3.0])
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(HEST_CONFIG | {"name": "all", "architecture": "unet", "width": 2, "depth": 1, "input_um": 4.0})
    )
    settings.TISSUE_MASK, settings.TISSUE_MASK_WEIGHTS = "learned", str(folder)
    return folder


def test_the_house_s_mask_is_used_and_named(make_slide, learned, settings):
    slide = make_slide("P1")
    with open_working(slide) as opened:
        mask = mask_of(slide, opened)
        tiles = len(grid_of(slide, opened, 56.0))
    key, inputs = input_key(slide), inputs_of(slide)
    assert mask.method == "all" and inputs["tissue mask"].startswith("all ") and inputs["tissue mask"] in key
    settings.TISSUE_MASK = "otsu"
    with open_working(slide) as opened:
        plain = mask_of(slide, opened)
        assert len(grid_of(slide, opened, 56.0)) < tiles
    assert input_key(slide) == slide.working_sha256 and "tissue mask" not in inputs_of(slide)
    assert np.count_nonzero(mask.mask) > np.count_nonzero(plain.mask) and plain.method == "otsu"


def test_without_its_weights_a_job_is_refused_with_where_they_are(make_slide, learned):
    slide = make_slide("P1")
    (learned / "model.safetensors").unlink()
    with open_working(slide) as opened, pytest.raises(TissueboardError) as refused:
        mask_of(slide, opened)
    assert refused.value.code == "MASK_WEIGHTS_MISSING" and "MahmoodLab/hest-tissue-seg" in refused.value.hint
    with pytest.raises(TissueboardError):
        input_key(slide)


def view_of(client, people, slide, level=10):
    """Answer for one view tile."""
    return client.get(reverse("slide_tile", args=[slide.pk, tile_token(people["viewer"], slide), level, 0, 0]))


def test_the_viewer_shows_no_tile_of_a_changed_file_and_all_again_once_it_is_restored(client, people, make_slide, monkeypatch):
    slide = make_slide("P1")
    path = store.path(slide.working_key)
    content, stat = path.read_bytes(), path.stat()
    first = view_of(client, people, slide)
    assert first.status_code == 200
    path.write_bytes(bytes(len(content)))  # into the same file: who holds it open reads this
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        refused = view_of(client, people, slide)
        assert (refused.status_code, refused.json()["code"]) == (409, "FILE_CHANGED")
        # Hundreds of tiles are asked for: the file is read once.
        monkeypatch.setattr("tissueboard.slides.integrity.checksum", lambda path: pytest.fail("read again"))
    monkeypatch.undo()
    path.rename(path.with_suffix(".damaged"))
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert view_of(client, people, slide).content == first.content
