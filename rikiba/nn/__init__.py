"""Parts of networks: radial bases, envelopes, harmonics, couplings, perceptrons, equivariant layers."""
