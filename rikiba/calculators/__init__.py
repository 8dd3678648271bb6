"""System → Results: energies with forces, stress and uncertainty, from any source of energy."""
