"""A user's ONNX file as a detector family."""
