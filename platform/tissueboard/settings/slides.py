"""How slides are processed."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from .env import env, one_of

# How tissue is told from glass: otsu, or learned, a network from the folder TISSUE_MASK_WEIGHTS (its layout: ml/slides/masks.py).
TISSUE_MASK = one_of("TISSUE_MASK", ("otsu", "learned"), "otsu")
TISSUE_MASK_WEIGHTS = env.str("TISSUE_MASK_WEIGHTS", default="")
if TISSUE_MASK == "learned" and not Path(TISSUE_MASK_WEIGHTS or "/nowhere").is_dir():
    raise ImproperlyConfigured("TISSUE_MASK is learned, but TISSUE_MASK_WEIGHTS names no folder; set it to the folder with the weights.")
# Protein embeddings of markers (one <UniProt>.pt or safetensors each) that a new VirTues is trained with; "" = those of a version only.
MARKER_BANK = env.str("MARKER_BANK", default="")
if MARKER_BANK and not Path(MARKER_BANK).is_dir():
    raise ImproperlyConfigured("MARKER_BANK names no folder; set it to the folder with the marker embeddings, or leave it out.")
