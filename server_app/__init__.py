"""The coordinator: the ServerApp, its rounds, and what a run leaves behind."""
