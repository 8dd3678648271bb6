"""Molecular dynamics: motion as operators, one or many systems in a state."""
