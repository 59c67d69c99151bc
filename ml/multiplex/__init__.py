"""Images of many measured channels (CODEX, IMC, MIBI, Vectra ...): checked, read plane by plane, kept as OME-Zarr pyramids."""
