"""Dayside: trains small language models on orbital power."""
