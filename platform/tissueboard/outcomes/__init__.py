"""Survival of cohorts: Kaplan-Meier, log-rank, hazard ratio."""
