"""The feature store and the lake beside COPY, plain SQL, Feast and other engines."""
