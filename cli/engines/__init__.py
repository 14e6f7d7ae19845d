"""One file an engine: `launch(config, folder, console)` carries a run to its end."""
