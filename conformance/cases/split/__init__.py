"""Cases of the group split."""
