"""Training: Lightning modules for the stages, configured by Hydra (`nlaic-train`)."""
