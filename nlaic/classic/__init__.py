"""The companions: what learning does for the codecs that people already have."""
