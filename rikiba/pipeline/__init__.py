"""The whole way from one file: label or read, train, validate, answer, simulate, report."""
