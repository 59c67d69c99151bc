"""Dash views behind one Django door (gateway.py). A view is a module with `build(prefix) -> Dash`; it keeps nothing about anybody."""
