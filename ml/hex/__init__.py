"""HEX: H&E tile -> mean expression of 40 proteins -> virtual CODEX map."""
