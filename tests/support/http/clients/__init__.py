"""Clients of other languages, and what builds them."""
