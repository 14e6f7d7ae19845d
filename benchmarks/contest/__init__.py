"""Methods against each other on one setting: tuned alike, run to the end, kept as a record."""
