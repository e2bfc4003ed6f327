"""What people look at: evaluate, sample, verify, export, the closing summary. All of it only reads a run directory."""
