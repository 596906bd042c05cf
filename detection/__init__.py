"""The thing that is compressed: a compact one-stage detector, its data, training and evaluation."""
