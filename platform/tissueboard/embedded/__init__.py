"""Postgres with pgvector and Redis from wheels, on unix sockets: the default that needs no server."""
