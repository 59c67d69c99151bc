"""This app keeps no tables of its own yet: it reads those of the apps below it."""
