"""Whole-slide images: sealed original, working slide, view tiles, quality."""
