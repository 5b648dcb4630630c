"""Energy meters, one counter a file."""
