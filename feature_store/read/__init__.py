"""What was known at a time: lookups, training sets, revisions, reasons."""
