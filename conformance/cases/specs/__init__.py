"""Cases of the group specs."""
