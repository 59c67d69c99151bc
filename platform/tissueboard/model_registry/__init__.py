"""Model versions: family, config, weights, pitch, panel, metrics, provenance, licence, label, membership."""
