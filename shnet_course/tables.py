"""A small table that a notebook renders, and that a terminal prints in columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Rows of texts under a head, and perhaps a sentence below; `marked` rows are set in bold."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"{len(row)} cells under a head of {len(self.head)}: {row}")

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="text-align: left">{escape(name)}</th>' for name in self.head)
        lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
        for number, row in enumerate(self.rows):
            texts = [escape(text) for text in row]
            if number in self.marked:
                texts = [f"<b>{text}</b>" for text in texts]
            cells = "".join(f'<td style="text-align: left">{text}</td>' for text in texts)
            lines.append(f"<tr>{cells}</tr>")
        lines.append("</tbody></table>")
        if self.note:
            lines.append(f"<p>{escape(self.note)}</p>")
        return "\n".join(lines)

    def __repr__(self) -> str:
        columns = zip(self.head, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.head, *self.rows)
        ]
        return "\n".join([*lines, self.note] if self.note else lines)
