"""Everything that a model gave about a slide or a patient: feature bag, virtual map, profile, risk."""
