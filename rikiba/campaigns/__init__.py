"""Many simulations as one piece of work: condition grids, and protocols of stage after stage."""
