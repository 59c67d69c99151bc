"""Patch encoders: what there is (data, no torch), how to build one (`build`), how to use one (`ml.encoders.runtime.load_encoder`)."""

from ml.encoders.catalogue import CATALOGUE, EncoderError, EncoderSpec, WeightsMismatch, WeightsMissing, build, encoder

__all__ = ["CATALOGUE", "EncoderError", "EncoderSpec", "WeightsMismatch", "WeightsMissing", "build", "encoder"]
