"""The case page, block by block in the order in which a board reads it (DESIGNS 10). One module per block."""
