"""One architecture a file; `base.py` holds the contract. The file name is the name in the configuration."""
