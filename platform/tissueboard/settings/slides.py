"""How slides are processed."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from .env import env, one_of

# How tissue is told from glass: otsu, or learned, a network from the folder TISSUE_MASK_WEIGHTS (its layout: ml/slides/masks.py).
TISSUE_MASK = one_of("TISSUE_MASK", ("otsu", "learned"), "otsu")
TISSUE_MASK_WEIGHTS = env.str("TISSUE_MASK_WEIGHTS", default="")
if TISSUE_MASK == "learned" and not Path(TISSUE_MASK_WEIGHTS or "/nowhere").is_dir():
    raise ImproperlyConfigured("TISSUE_MASK is learned, but TISSUE_MASK_WEIGHTS names no folder; set it to the folder with the weights.")
