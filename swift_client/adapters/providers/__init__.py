"""Providers as data: addresses, keys, capabilities and entry points of other packages."""
