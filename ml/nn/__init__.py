"""Blocks that two families share."""
