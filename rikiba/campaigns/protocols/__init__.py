"""Named protocols: what `protocol.kind` of a configuration may say."""
