"""Ensembles without equations of motion: Monte Carlo."""
