"""Stage `prepare`: packed pixels and COCO ground truth."""
