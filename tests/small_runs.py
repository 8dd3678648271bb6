"""The examples at a size for tests: settings that make them small, and nothing else about them.

Trained by epochs, not by time, so that what is reached does not depend on how busy the machine is.
"""

ETHANOL = [
    "explorer.0.trajectories=1",
    "explorer.0.temperatures_K=[300, 400, 500, 600]",
    "explorer.0.duration_fs=100",
    "explorer.1.frames=60",
    "split.validation_fraction=0.2",
    "split.test_fraction=0.2",
    "model.behler_parrinello.training.schedule_follows=epochs",
    "model.behler_parrinello.training.max_epochs=40",
    "model.mace.training.schedule_follows=epochs",
    "model.mace.training.max_epochs=60",
    "model.mace.training.batch_size=4",
    "model.mace.training.ema_decay=0.95",
    "property.torsion_profile.n_points=6",
    "property.torsion_profile.relax=false",
    "simulation.replicas=4",
    "simulation.total_ps=0.4",
    "simulation.equilibration_ps=0.02",
    "simulation.reference_ps=0.2",
    "simulation.reference_replicas=2",
]

SILICON = [
    "model.behler_parrinello.members=2",
    "model.behler_parrinello.potential.terms.0.cutoff=4.0",
    "model.behler_parrinello.potential.terms.0.n_radial=8",
    "model.behler_parrinello.potential.terms.0.n_angular=2",
    "model.behler_parrinello.potential.terms.0.zetas=[1, 4]",
    "model.behler_parrinello.training.schedule_follows=epochs",
    "model.behler_parrinello.training.max_epochs=4",
    "model.mace.members=2",
    "model.mace.potential.terms.0.cutoff=4.2",
    "model.mace.potential.terms.0.channels=4",
    "model.mace.potential.terms.0.max_L=0",
    "model.mace.potential.terms.0.l_max=2",
    "model.mace.potential.terms.0.correlation=2",
    "model.mace.potential.terms.0.radial_widths=[16]",
    "model.mace.training.learning_rate=0.03",
    "model.mace.training.schedule_follows=epochs",
    "model.mace.training.max_epochs=1",
    "validation.physics=false",
    "property.eos.n_points=7",
]

COMPARISON = [
    "training.max_seconds=0.2",
    "training.members=2",
    "comparison.round_s=0.02",
    "comparison.rounds=2",
    "model.snap.potential.twojmax=4",
    "model.qsnap.potential.twojmax=4",
    "model.ace.potential.total_degree=[8, 7, 6]",
    "model.gap.potential.terms.0.n_sparse=30",
]
