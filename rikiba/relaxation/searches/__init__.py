"""Searches for the lowest of many minima: what `search.kind` of a configuration may say."""
