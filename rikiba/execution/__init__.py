"""How work is run and what is written down about it."""
