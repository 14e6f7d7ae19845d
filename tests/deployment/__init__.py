"""Tests with real processes: SuperLink, SuperNodes, and `nufed` that submits to them."""
