"""Recordings of live streams that last for weeks: folders with one owner, what is kept in them, and the disk."""
