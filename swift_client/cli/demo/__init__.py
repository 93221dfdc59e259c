"""The command ``swift-client demo``."""
