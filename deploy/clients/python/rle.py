"""A mask of the mask stream to pixels, by pycocotools."""

from pycocotools import mask as coco


def decode(mask):
    """``mask`` as in the header, its counts a string or plain integers -> uint8 (height, width) of 0 and 1."""
    return coco.decode(mask if isinstance(mask["counts"], str) else coco.frPyObjects(mask, *mask["size"]))
