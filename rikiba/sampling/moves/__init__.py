"""Trial moves of Monte Carlo: what `move.kind` of a configuration may say."""
