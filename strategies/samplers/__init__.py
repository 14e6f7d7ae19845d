"""Samplers, one a file: which clients train in a round."""
