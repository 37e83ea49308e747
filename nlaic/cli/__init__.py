"""The console scripts, one small file each."""
