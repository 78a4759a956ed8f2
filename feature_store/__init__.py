"""A bitemporal feature store: what was known at time T, for one entity or a whole training set."""
