"""Focus on real slides: falls with every known blur in every tile, sharp scans pass, blurred ones are called so."""

import numpy as np
import pytest
from scipy import ndimage

from ml.slides.grid import tile_grid
from ml.slides.quality import slide_quality, tile_focus
from ml.slides.quality_limits import FOCUS_AT_LEAST, quality_findings
from ml.slides.reader import open_slide
from ml.slides.tissue import tissue_mask

pytestmark = pytest.mark.realdata
SLIDES = {"wsi/cmu-1-small-region.svs": None, "wsi/tcga-cr-7395-01a-01-ts1.svs": 0.5}


@pytest.mark.parametrize("name", SLIDES)
def test_focus_falls_with_every_blur(data, name):
    with open_slide(data / name, mpp=SLIDES[name]) as slide:
        grid = tile_grid(tissue_mask(slide), slide, 112.0, 112.0, min_tissue=0.7)
        tiles = slide.tile_array(grid, 224)[:40]
        quality = slide_quality(slide, tissue_mask(slide))
    scores = []
    for um in (0.0, 0.25, 0.5, 0.75, 1.0, 2.0):
        px = um / 0.5
        soft = ndimage.gaussian_filter(tiles.astype(np.float32), (0, px, px, 0)) if um else tiles
        scores.append(tile_focus(np.rint(soft).clip(0, 255).astype(np.uint8), 0.5))
    falls = np.diff(np.stack(scores), axis=0)
    assert (falls < 0).all()
    assert (scores[0] > 0.18).mean() > 0.95 and (scores[0] > FOCUS_AT_LEAST).all() and (scores[4] < FOCUS_AT_LEAST).all()
    assert quality.blurred_share == 0.0 and quality_findings(quality, name) == [], "a good slide has no warning"
