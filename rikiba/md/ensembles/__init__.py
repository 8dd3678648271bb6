"""Named integrators: what `ensemble.kind` of a configuration may say."""
