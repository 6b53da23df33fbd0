import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else it tells the user about its caches
