"""Patch encoders: what there is (data, no torch) and how to build one."""

from ml.encoders.catalogue import CATALOGUE, EncoderError, EncoderSpec, WeightsMismatch, WeightsMissing, build, encoder

__all__ = ["CATALOGUE", "EncoderError", "EncoderSpec", "WeightsMismatch", "WeightsMissing", "build", "encoder"]
