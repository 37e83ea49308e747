"""Evaluation: rate and distortion of this codec and others on real files (`nlaic-evaluate`)."""
