"""Other people's engines, and a JAX loop of ours, on the work that NuFed is timed for.

An opponent is a file of this folder that has the names of `benchmarks.opponents.found.Opponent`,
and imports neither NuFed nor what may be missing before it is asked to prepare. It is run in a
process of its own by the Python of .venv-bench, since pfl-research and Flower need different
versions of dp-accounting: they are a dependency group of pyproject.toml, not an extra.
"""
