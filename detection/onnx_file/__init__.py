"""A detector that is only an ONNX file, trained elsewhere: what its outputs mean."""
