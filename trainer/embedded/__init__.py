"""From-scratch training of the embedded models."""
