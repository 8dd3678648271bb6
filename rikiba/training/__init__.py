"""Fitting potentials: gradient descent, exact least squares, checkpoints."""
