"""Settings of the small reference that tests train: six patients on small slides, so that it takes seconds."""

SIMULATOR = {"size_px": 1024, "hazard": {"dropout_per_year": 0, "administrative_days": 20_000, "baseline_median_days": 900}}
HEX_CONFIG = {"epochs": 30}
PATIENTS = 6
