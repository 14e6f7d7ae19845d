"""What a person calls from Python: `nufed.train`, `nufed.load`, `nufed.compare`."""
