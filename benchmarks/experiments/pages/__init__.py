"""The sections of docs/results.md: what each needs to be run, and what it says of that."""
