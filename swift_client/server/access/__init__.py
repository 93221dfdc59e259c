"""The callers of the service: their keys, their limits, and the queue before the work."""
