"""OpenVINO: .xml with .bin, and .onnx; int8 by NNCF."""
