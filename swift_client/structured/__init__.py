"""Structured output: response schemas, their request fields and agreement by field."""
