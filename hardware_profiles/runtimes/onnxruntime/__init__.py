"""ONNX Runtime: .onnx files, int8 by its own quantizer."""
