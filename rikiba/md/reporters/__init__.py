"""What a run writes as it goes; one kind of output a file."""
