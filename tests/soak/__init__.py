"""The whole daemon over many frames: what it holds must not grow."""
