"""Bodies, connections, replies and errors of HTTP, within limits."""
