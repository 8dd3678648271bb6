"""The ground: units, elements, `System`, `Pairs`, `Results`, `Record`, registry, citations."""
