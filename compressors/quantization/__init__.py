"""quantization: int8 files by the tool of the runtime that will run them."""

from __future__ import annotations

from compressors.quantization.method import Quantization, QuantizationRecord, quantize, refuse_few_pictures, refuse_unsupported

__all__ = ["Quantization", "QuantizationRecord", "quantize", "refuse_few_pictures", "refuse_unsupported"]
