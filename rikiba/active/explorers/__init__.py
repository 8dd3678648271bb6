"""Ways to find new structures: what `explorer.kind` of a configuration may say."""
