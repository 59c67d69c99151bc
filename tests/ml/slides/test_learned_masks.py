"""A network as tissue mask: loaded from a folder of the stated layout, read at its own um per px, refused with a sentence otherwise."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ml.slides.findings import FindingCode, SlideError
from ml.slides.mask_network import UNet
from ml.slides.masks import HEST_CONFIG, OTSU, mask_method, method_key
from ml.slides.reader import open_slide
from ml.slides.tissue import tissue_mask

CONFIG = {
    **HEST_CONFIG, "name": "drawn", "architecture": "unet", "width": 4, "depth": 2, "input_um": 4.0, "mean": [0.0] * 3, "std": [1.0] * 3,
}  # fmt: skip


def write_folder(folder, network, **changed):
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | changed))
    return folder


@pytest.fixture(scope="module")
def trained(pyramid):
    """A small U-Net that learned the drawn tissue from Otsu's own mask, in a few seconds."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with open_slide(pyramid) as slide:
        picture = slide.overview(8.0)
        truth = np.kron(tissue_mask(slide).mask, np.ones((2, 2), bool))[: picture.shape[0], : picture.shape[1]]
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    y = torch.from_numpy(truth.astype(np.int64))[None]
    network = UNet(2, 4, 2)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()


def test_a_network_finds_the_tissue_at_its_own_um_per_px(trained, tmp_path, pyramid):
    method = mask_method("learned", write_folder(tmp_path / "weights", trained))
    with open_slide(pyramid) as slide:
        learned, otsu = tissue_mask(slide, method=method), tissue_mask(slide)
    assert learned.mask.shape == otsu.mask.shape and (learned.mask ^ otsu.mask).sum() < 0.05 * otsu.mask.sum()
    assert (learned.method, learned.threshold, otsu.method) == ("drawn", 0.5, "otsu")
    assert len(learned.method_sha256) == 64 and otsu.method_sha256 == ""


def test_windows_join_without_seams(trained, tmp_path, pyramid, monkeypatch):
    method = mask_method("learned", write_folder(tmp_path / "weights", trained))
    with open_slide(pyramid) as slide:
        whole = tissue_mask(slide, method=method)
        monkeypatch.setattr("ml.slides.tissue.WINDOW_PX", 128)
        pieces = tissue_mask(slide, method=method)
    assert (whole.mask ^ pieces.mask).mean() < 0.002


def test_the_key_tells_weights_apart_and_needs_no_network(trained, tmp_path):
    folder = write_folder(tmp_path / "weights", trained)
    first = method_key("learned", folder)
    assert first.startswith("drawn ") and mask_method("learned", folder).sha256 in first
    write_folder(folder, trained, threshold=0.6)
    os.utime(folder / "config.json", ns=(1, 1))
    second = method_key("learned", folder)
    assert first != second and method_key("otsu") == "" and mask_method("otsu") is OTSU
    assert mask_method("learned", folder).threshold == 0.6, "a changed folder is read again"


def test_the_published_checkpoint_by_its_names(tmp_path):
    """deeplabv3_seg_v4.ckpt: a trainer's prefix, an auxiliary head, torch's own pickle."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=2, aux_loss=True)
    torch.nn.init.zeros_(network.classifier[4].weight)
    network.classifier[4].bias.data = torch.tensor([0.0, 2.0])
    torch.save({"state_dict": {f"model.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "deeplabv3_seg_v4.ckpt")
    method = mask_method("learned", tmp_path)
    found, _ = method.mask(np.full((64, 64, 3), 200, np.uint8), 1.0)
    assert found.all() and (method.name, method.input_um) == ("hest-tissue-seg", 1.0)


def refused(folder):
    with pytest.raises(SlideError) as refusal:
        mask_method("learned", folder)
    assert refusal.value.sentence.endswith(".") and refusal.value.hint.endswith(".")
    return refusal.value


def test_what_is_missing_is_named_with_where_to_get_it(trained, tmp_path):
    assert refused(None).code == refused(tmp_path / "nowhere").code == FindingCode.MASK_WEIGHTS_MISSING
    empty = refused(tmp_path)
    assert "model.safetensors" in empty.sentence and "MahmoodLab/hest-tissue-seg" in empty.hint and "non-commercial" in empty.hint
    folder = write_folder(tmp_path / "weights", trained)
    (folder / "config.json").unlink()
    assert "config.json" in refused(folder).sentence


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture": "unet2"},
        {"input_um": 0},
        {"threshold": 1.5},
        {"tissue": ["muscle"]},
        {"std": [1, 0, 1]},
        {"mean": "0"},
        {"width": 8},
    ],
)
def test_a_config_that_cannot_be_is_refused(trained, tmp_path, changed):
    assert refused(write_folder(tmp_path / "weights", trained, **changed)).code == FindingCode.MASK_WEIGHTS_INVALID


def test_a_checkpoint_that_runs_code_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.system, ("touch harmed",))

    torch.save({"state_dict": Harm()}, tmp_path / "deeplabv3_seg_v4.ckpt")
    assert refused(tmp_path).code == FindingCode.MASK_WEIGHTS_INVALID


def test_a_network_that_needs_more_detail_than_there_is(trained, tmp_path, make_pyramid, picture):
    method = mask_method("learned", write_folder(tmp_path / "weights", trained))
    with open_slide(make_pyramid(tmp_path / "a.tif", picture, mpp=7.0)) as slide, pytest.raises(SlideError) as refusal:
        tissue_mask(slide, method=method)
    assert refusal.value.code == FindingCode.LEVEL_TOO_LOW
