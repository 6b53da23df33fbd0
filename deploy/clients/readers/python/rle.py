"""Decode a mask of the mask stream with pycocotools."""

from pycocotools import mask as coco


def decode(mask):
    """Decode ``mask`` of a header, with counts as a string or plain integers: uint8 (height, width) of 0 and 1."""
    return coco.decode(mask if isinstance(mask["counts"], str) else coco.frPyObjects(mask, *mask["size"]))
