"""The numbers of a profile that a fit looks for: which of them, between which bounds, and how they get into the profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware_profiles.estimate.model import WINOGRAD_SAVING
from hardware_profiles.schema.profile import DType, HardwareProfile, PerClass

CLASSES = ("conv3x3s1", "conv1x1", "conv_other", "depthwise")
"""The first of the model's, those that may be fitted; the others come from a micro-benchmark."""
MOST_SHARE = 5.0
"""Of the peak, saved products included; profiles refuse more."""
CLASS_MEASURED = 16
"""From this many measured networks on, classes of convolutions get constants of their own."""


@dataclass(frozen=True)
class Coefficients:
    """The numbers of one type that a fit looks for, under the names of the profile."""

    utilisation: float
    by_class: Mapping[str, float]
    """Utilisation of classes that have one of their own, besides those that the profile gives."""
    op_overhead_us: float
    base_us: float
    place_ns: float
    zero_point_us: float

    @classmethod
    def of(cls, profile: HardwareProfile, dtype: DType) -> Coefficients:
        """What the profile has now."""
        utilisation = profile.utilisation.of(dtype)
        assert utilisation is not None, "a profile has a utilisation for every dtype it lists; loading checked it"
        numbers = {name: getattr(profile, name).of(dtype) or 0.0 for name in ("op_overhead_us", "base_us", "place_ns")}
        return cls(utilisation, {}, zero_point_us=profile.zero_point_us or 0.0, **numbers)

    def put_into(self, profile: HardwareProfile, dtype: DType) -> HardwareProfile:
        """The profile with these numbers in it; sources are the caller's."""
        by_class = profile.class_utilisation.of(dtype) or PerClass()
        # A number for 3x3 convolutions has the saving by Winograd's method in it; the fit has not.
        saving = {"conv3x3s1": WINOGRAD_SAVING} if dtype in profile.winograd else {}
        shares = {name: min(_rounded(value * saving.get(name, 1.0)), MOST_SHARE) for name, value in self.by_class.items()}
        by_class = by_class.model_copy(update=shares)
        numbers = {
            "utilisation": _rounded(self.utilisation),
            "op_overhead_us": _or_null(self.op_overhead_us),
            "base_us": _or_null(self.base_us),
            "place_ns": _or_null(self.place_ns),
            "class_utilisation": by_class if by_class != PerClass() else None,
        }
        update = {name: getattr(profile, name).model_copy(update={dtype: value}) for name, value in numbers.items()}
        zero_point = {"zero_point_us": _or_null(self.zero_point_us)} if dtype == "int8" else {}
        return profile.model_copy(update=update | zero_point)


@dataclass(frozen=True)
class Form:
    """Which numbers are fitted besides a utilisation; those not named stay as the profile has them."""

    name: str
    fewest: int
    """Measured networks it needs: about three for each number, `CLASS_MEASURED` for classes."""
    fields: tuple[str, ...] = ()
    """Of `Coefficients`."""
    classes: bool = False

    def sources(self, dtype: DType, found: Coefficients) -> tuple[str, ...]:
        """Dotted names of the profile's numbers that it fits."""
        fields = (name if name == "zero_point_us" else f"{name}.{dtype}" for name in ("utilisation", *self.fields))
        return (*fields, *(f"class_utilisation.{dtype}.{name}" for name in found.by_class))


FORMS: tuple[Form, ...] = (
    Form("one utilisation", 2),
    Form("utilisation and operator overhead", 5, ("op_overhead_us",)),
    Form("utilisation and base", 5, ("base_us",)),
    Form("utilisation, operator overhead and base", 8, ("op_overhead_us", "base_us")),
    Form("utilisation, operator overhead, and per place", 8, ("op_overhead_us", "place_ns")),
    Form("utilisation, operator overhead, base, and per place", 11, ("op_overhead_us", "base_us", "place_ns")),
    Form("utilisation by class, operator overhead and base", CLASS_MEASURED, ("op_overhead_us", "base_us"), classes=True),
    Form(
        "utilisation by class, operator overhead, base, and per place",
        CLASS_MEASURED + 3,
        ("op_overhead_us", "base_us", "place_ns"),
        classes=True,
    ),
)
"""From few numbers to many; of forms that predict about equally well the first is taken."""


def _or_null(value: float) -> float | None:
    """Null for less than a hundredth of a microsecond, or nanosecond a position: the fit found none."""
    return _rounded(value) if value >= 0.01 else None


def _rounded(value: float) -> float:
    """Three significant digits: more than any fit here is sure of."""
    return float(f"{value:.3g}")
