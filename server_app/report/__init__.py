"""The page that a run leaves, and the page that compares runs; both made from run folders alone."""
