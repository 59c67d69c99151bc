"""Niche vectors (pgvector) and similar cases."""
