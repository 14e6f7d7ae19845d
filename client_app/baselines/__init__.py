"""What clients have without federation, each of its own train rows, on the same test rows."""
