"""From a frame to stored points."""
