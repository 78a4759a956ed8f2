"""Twelve kinds of fault planted on real prices, found through the public interface."""
