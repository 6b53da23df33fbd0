"""Soak test: the whole daemon over many frames; its memory must not grow."""
