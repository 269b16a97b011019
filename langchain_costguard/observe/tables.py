"""Tables in every form they are shown: aligned text, HTML for Jupyter, a data frame."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_costguard.vocabulary.slips import hint

if TYPE_CHECKING:
    import pandas as pd


def table(header: Sequence[str], body: Sequence[Sequence[str]], *, left: int) -> str:
    """Align cells in columns: the first ``left`` columns to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *(line(row) for row in body)])


def html_table(header: Sequence[str], body: Sequence[Sequence[str]], *, left: int, bold: bool = False) -> str:
    """The same cells as HTML; none of them is run. With ``bold``, the last row is."""
    sides = ["left" if i < left else "right" for i in range(len(header))]

    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )

    rows = "".join(f"<tr>{row('td', cells)}</tr>" for cells in body[:-1])
    rows += "".join(f"<tr>{row('th' if bold else 'td', cells)}</tr>" for cells in body[-1:])
    return f"<table><thead><tr>{row('th', header)}</tr></thead><tbody>{rows}</tbody></table>"


def block(inner: str) -> str:
    """HTML for Jupyter in which a ``$`` is a dollar: MathJax would take what stands between two of them for a formula.

    https://docs.mathjax.org/en/latest/options/document.html#the-configuration-block
    """
    return f'<div class="costguard tex2jax_ignore mathjax_ignore">{inner}</div>'


class Tabular(ABC):
    """What is shown as a table: ``str()`` is aligned text, and Jupyter shows it as one."""

    MONEY: tuple[str, ...] = ()
    """The columns of ``to_dicts`` that are floats in a DataFrame."""
    NOTHING = "Nothing."
    """What is shown in the place of a table without rows."""
    SUM = False
    """Whether the last row is the sum of all."""

    @abstractmethod
    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a row."""

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a DataFrame, money as floats.

        Raises:
            ImportError: pandas is not installed.
        """
        return data_frame(self.to_dicts(), self.MONEY)

    def __str__(self) -> str:
        header, body, left = self._cells()
        return table(header, body, left=left) if body else self.NOTHING

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        header, body, left = self._cells()
        return block(html_table(header, body, left=left, bold=self.SUM)) if body else f"<p>{self.NOTHING}</p>"

    @abstractmethod
    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        """Header and rows as text, and how many columns are no figures."""


def data_frame(rows: Sequence[dict[str, Any]], money: Sequence[str]) -> pd.DataFrame:
    """The rows as a DataFrame, the columns of ``money`` as floats.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("to_pandas() needs pandas: pip install 'langchain-costguard[pandas]'") from None
    frame = pd.DataFrame(rows)
    for name in money:
        if name in frame:
            frame[name] = frame[name].astype(float)
    return frame


def chosen(dimensions: Sequence[str], known: Sequence[str]) -> list[int]:
    """The columns of these dimensions.

    Raises:
        ValueError: names a dimension there is not.
    """
    for name in dimensions:
        if name not in known:
            raise ValueError(f"by: {name!r} is not one of {', '.join(known)}{hint(name, known)}")
    return [known.index(name) for name in dimensions]
