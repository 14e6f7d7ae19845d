"""How fast NuFed is beside a loop that a practitioner writes: ``python -m benchmarks``."""
