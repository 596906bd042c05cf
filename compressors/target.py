"""What a setting asks of a method's result, and whether it got it. Imports next to nothing: records are read without torch."""

from __future__ import annotations

from detection.frozen import Frozen


class Target(Frozen):
    """What a setting asks to stay, and what stayed; the more stays, the larger the network."""

    method: str
    setting: str
    """The field that asks, such as `keep_macs`."""
    asked: float
    """Share of what the method was given."""
    reached: float

    @property
    def missed(self) -> bool:
        """Whether more stayed than was asked for: a floor is in the way."""
        return self.reached > self.asked

    def in_words(self) -> str:
        """For people, with as many digits as it takes to tell the two apart."""
        digits = next((own for own in (0, 1, 2) if f"{self.reached:.{own}%}" != f"{self.asked:.{own}%}"), 3)
        return f"{self.method}: {self.reached:.{digits}%} stay where {self.setting} asks for {self.asked:.{digits}%}"
