"""Training sets and the lake as Parquet files."""
