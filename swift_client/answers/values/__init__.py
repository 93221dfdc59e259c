"""Typed values: one whole value from a text, and the values in a text."""

from swift_client.answers.values.parse import normalize, parse_value, read_value
from swift_client.answers.values.scan import scan_values
from swift_client.answers.values.value import Value

__all__ = ["Value", "normalize", "parse_value", "read_value", "scan_values"]
