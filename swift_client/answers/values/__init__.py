"""Typed values: one whole value from a text, and the values in a text."""

from swift_client.answers.values.parse import parse_value, read_value
from swift_client.answers.values.scan import scan_values
from swift_client.answers.values.value import Value

__all__ = ["Value", "parse_value", "read_value", "scan_values"]
