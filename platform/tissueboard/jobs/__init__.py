"""Background work: one Job table, one state machine, outputs, dependencies. Knows no domain app."""
