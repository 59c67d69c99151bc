"""What is known and who may know it: Django and Postgres. Imports ml, never frontend."""
