"""Operators that change the cell: each file holds one, by the name of its file."""
