"""Builders of starting structures: what `structure.kind` of a configuration may say."""
