"""Coulomb's law of many charges: functions of System, Pairs and charges, differentiable twice."""
