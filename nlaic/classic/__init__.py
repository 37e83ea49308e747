"""Learning for the codecs that people already have: filters behind them, and bytes shared out over a set."""
