"""One file for each family of stackers, and what they share."""
