"""A minimal configuration for tests."""

GATE = """
[[streams]]
name = "gate"
source = "rtsp://user:hunter2@camera.local/1"
prompts = ["person"]
"""
