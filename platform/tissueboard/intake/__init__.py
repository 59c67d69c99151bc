"""Uploads, imports, findings, mapping, identifier removal: how anything comes in."""
