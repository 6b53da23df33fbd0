"""Files of weights: reading them without running code from them, and naming what they hold."""
