"""Discovery on cell tokens: clusters, fingerprints, biomarkers, signatures, risk groups, cell types. Imports no torch."""
