"""Sending: HTTP, keys, cloud sign-in, error mapping and rate-limit headers."""
