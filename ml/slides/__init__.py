"""Whole-slide images by physical size: reader, tissue mask, tile grid, view tiles, feature files, intake checks, identifier removal."""
