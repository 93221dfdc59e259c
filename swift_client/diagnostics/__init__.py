"""Checks of a live endpoint, as ``swift-client doctor`` runs them."""
