"""Requests for models that are not virtual ones: sent to one provider as they are, and its reply back as it is."""
