"""Nearest minima of structures, in fixed and variable cells."""
