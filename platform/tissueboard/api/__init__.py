"""DRF wiring and OpenAPI."""
