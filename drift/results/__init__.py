"""What the monitor stores and returns."""
