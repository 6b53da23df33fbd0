"""What happened, in a database: events, tracks with their best views, segments of recordings."""
