"""Cohort, membership and roles; patient, sample, events, clinical values, endpoints."""
