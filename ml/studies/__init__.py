"""Studies on known truth and real sections, each a resumable command that writes its table. Importing this package imports no torch."""
