"""The command line: one verb a file. A file with a function `execute` is a verb of the same name."""
