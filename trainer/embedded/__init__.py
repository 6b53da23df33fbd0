"""From-scratch training of the small models that maskcast carries."""
