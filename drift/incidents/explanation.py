"""An incident explained: its evidence as text and as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass

from .chapters import Chapter, chapters
from .evidence import Evidence

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation(Evidence):
    """What is wrong with a strategy, since when and why; or the statement that nothing is.

    The attributes are those of `Evidence`: `causes`, `decisions`, and the answers behind them.
    """

    @property
    def chapters(self) -> list[Chapter]:
        """The text in the order of a reader."""
        return chapters(self)

    def lines(self) -> list[str]:
        """The page as text.

        Returns
        -------
        list of str
        """
        return [
            self.title,
            self.range_text,
            *(line for chapter in self.chapters for line in chapter.lines()),
        ]

    def html(self) -> str:
        """The page: self-contained, with pictures inside.

        Returns
        -------
        str
        """
        from .page import render

        return render(self)
