"""Writes of accounts: tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.utils import timezone

from .models import Token, User

TOKEN_DAYS = 30


def digest_of(token: str) -> str:
    """SHA-256 of a token, as kept in the database."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue_token(user: User) -> tuple[str, Token]:
    """A new token for the user, valid for 30 days. The plain text is returned once and not kept."""
    plain = secrets.token_urlsafe(32)
    return plain, Token.objects.create(user=user, digest=digest_of(plain), expires_at=timezone.now() + timedelta(days=TOKEN_DAYS))
