"""The experiments of docs/results.md: `make experiments`."""
