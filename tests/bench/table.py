"""One line of the table in docs/results/slides.md, as a bench prints it: run_all.py collects the lines."""


def table_row(path: str, beside: str, theirs: str, ours: str, ratio: str, aim: str, equality: str) -> None:
    """path: the hot path; theirs, ours: with units; ratio: theirs by ours, or what the aim is about; equality: what was compared."""
    print("| " + " | ".join((path, beside, theirs, ours, ratio, aim, equality)) + " |")
