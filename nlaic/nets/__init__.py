"""The networks: arrays in, arrays out; they know nothing of files, bytes or qualities' names."""
