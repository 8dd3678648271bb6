"""What motion must keep: each file holds one constraint, by the name of its file."""
