"""Cases of the group access."""
