"""Operators that exchange heat with a bath."""
