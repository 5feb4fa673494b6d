"""The record of photographs that training left out or converted, told once at the end."""

import collections
import threading

_NAMED = 20


class SkippedPhotos:
    """Which photographs were skipped, and why, and which were converted to RGB.

    Every photograph counts once, however often it comes up. Safe to use from several threads.

    Example:
      >>> skipped = SkippedPhotos()
      >>> for _ in range(3):
      ...     skipped.add_skipped('a.jpg', 'image file is truncated')
      ...     skipped.add_converted('b.jpg', 'grayscale')
      >>> len(skipped), skipped.reasons
      (1, {'a.jpg': 'image file is truncated'})
      >>> print(skipped.summary())
      skipped 1 photograph: a.jpg (image file is truncated); converted 1 to RGB (1 grayscale)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}
        self._converted: dict[str, str] = {}

    def add_skipped(self, name: str, reason: str) -> None:
        """Note that photograph `name` cannot be used; the first reason stays."""
        with self._lock:
            self._reasons.setdefault(name, reason)

    def add_converted(self, name: str, form: str) -> None:
        """Note that photograph `name` was converted to RGB from `form`, e.g. `'grayscale'`."""
        with self._lock:
            self._converted.setdefault(name, form)

    def __len__(self) -> int:
        """Return how many photographs were skipped."""
        return len(self._reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """The skipped photographs: reason by name, in the order they came up."""
        with self._lock:
            return dict(self._reasons)

    @property
    def converted(self) -> dict[str, str]:
        """The converted photographs: what each was, by name."""
        with self._lock:
            return dict(self._converted)

    def summary(self) -> str:
        """Return one line that names up to 20 skipped photographs; `''` if nothing happened."""
        reasons, converted = self.reasons, self.converted
        parts = []
        if reasons:
            listed = [f"{name} ({why})" for name, why in list(reasons.items())[:_NAMED]]
            if len(reasons) > _NAMED:
                listed.append(f"and {len(reasons) - _NAMED} more")
            plural = "" if len(reasons) == 1 else "s"
            parts.append(f"skipped {len(reasons)} photograph{plural}: {', '.join(listed)}")
        if converted:
            forms = collections.Counter(converted.values()).most_common()
            counts = ", ".join(f"{count} {form}" for form, count in forms)
            parts.append(f"converted {len(converted)} to RGB ({counts})")
        # A name that is not valid text (possible on Linux) must not break the printing of the rest.
        return "; ".join(parts).encode(errors="backslashreplace").decode()
