"""Others call us, and we read their weights."""
