"""Cases of the group metrics."""
