"""Alert rules, their simulation, and the life of an alert."""
