"""On real H&E and IHC nothing is called ink; strokes of several inks drawn over them are found."""

import numpy as np
import pytest
from pen_strokes import INKS, with_stroke
from PIL import Image

from ml.slides.reader import open_slide
from ml.slides.tissue import mask_of

pytestmark = [pytest.mark.realdata, pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]
PICTURES = {
    "paraffin": ("wsi/cmu-1-small-region.svs", None),
    "frozen": ("wsi/tcga-cr-7395-01a-01-ts1.svs", 0.5),
    "kidney": ("wsi/kidney-48-5.tif", None),
    "C2": ("her2st/ST-imgs/C/C2/5714_HE_BT_C2.jpg", None),
    "C3": ("her2st/ST-imgs/C/C3/5714_HE_BT_D1.jpg", None),
    "C4": ("her2st/ST-imgs/C/C4/5714_HE_BT_D2.jpg", None),
}


@pytest.fixture(scope="module")
def overviews(data) -> dict[str, np.ndarray]:
    """Overviews of about 8 um per cell; the IHC picture is an overview itself."""
    import tifffile

    made = {}
    for name, (path, mpp) in PICTURES.items():
        if path.endswith(".svs"):
            with open_slide(data / path, mpp=mpp) as slide:
                made[name] = slide.overview(8.0 / slide.mpp)
        elif path.endswith(".tif"):
            made[name] = tifffile.imread(data / path)[..., :3]
        else:
            picture = Image.open(data / path)
            picture.draft("RGB", (picture.width // 8, picture.height // 8))
            made[name] = np.asarray(picture.convert("RGB").reduce(2))
    return made


@pytest.mark.parametrize("name", PICTURES)
def test_no_stain_is_called_ink(overviews, name):
    found = mask_of(overviews[name], 8.0)
    assert found.pen_share < 0.002 and found.mask.any()


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("name", ["paraffin", "frozen", "kidney", "C2"])
def test_strokes_are_found_wherever_they_lie(overviews, name, ink):
    drawn, where = with_stroke(overviews[name], ink, seed=len(name))
    found, plain = mask_of(drawn, 8.0), mask_of(overviews[name], 8.0)
    assert (found.mask & where).sum() < 0.1 * where.sum()
    assert found.pen_share > 0.9 * where.mean()
    assert found.mask[plain.mask & ~where].mean() > 0.8
