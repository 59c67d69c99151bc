"""Measured molecular data on the tissue: panels and registered measurements."""
