"""The entries of the catalogue, in the order in which they are listed."""

from ml.encoders.entries import natural, own, private_slides, public_slides, with_text
from ml.encoders.spec import EncoderSpec

ENTRIES: tuple[EncoderSpec, ...] = (
    *own.ENTRIES,
    *private_slides.ENTRIES,
    *with_text.ENTRIES,
    *public_slides.ENTRIES,
    *natural.ENTRIES,
)
