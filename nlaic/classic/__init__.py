"""Learning for the codecs that people already have: filters, smaller JPEGs, bytes shared out over a set."""
