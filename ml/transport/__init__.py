"""Optimal-transport distances between tissues, niche vectors, and exact retrieval. Imports no torch."""
