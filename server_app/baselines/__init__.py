"""What there is without federation, on the same test rows as a run's personal models."""
