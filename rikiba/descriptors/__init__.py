"""(System, Pairs) → invariant features per atom."""
