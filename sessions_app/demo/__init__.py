"""The sick demo service `checkout`, which gives a fresh CLM something real to look at and to heal."""

from __future__ import annotations
