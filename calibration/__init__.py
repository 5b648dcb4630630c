"""Calibrators, one method a file."""
