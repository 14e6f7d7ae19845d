"""What to run: Hydra groups, one option a file, and the types behind them."""
