"""Logs of other tools as samples: the plain form, mappers onto it, and bounded reading of files that anyone wrote."""
