"""One method a file: an `Algorithm` of a published paper, or of your own."""
