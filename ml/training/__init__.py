"""The one training loop, and splits by patient. Importing this package imports no torch."""
