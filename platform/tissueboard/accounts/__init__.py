"""Users, tokens, sign-in, access log."""
