"""Every method beside every other, on four data sets: `make compare` writes docs/comparison.md."""
