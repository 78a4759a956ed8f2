"""What the monitor records and reads: predictions, returns, features."""
