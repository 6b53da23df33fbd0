"""When a stream gets its keyframes: what moves in its pictures, what its looks bring, and how many frames it waits."""
