"""Columns of any length in temporary files, and what evaluations compute from them in constant memory."""
