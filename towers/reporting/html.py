"""HTML pieces: escaped tables, sections and the page around them. Everything is inside the page, nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1rem;color:#1b1f1d;background:#fff}
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.25rem;margin-top:2.2rem;border-bottom:2px solid #0b6e4f}
h3{font-size:1.02rem;margin:1.4rem 0 .3rem}
nav a{margin-right:.9rem;white-space:nowrap}a{color:#0b6e4f}
.verdict{background:#eef6f2;border-left:4px solid #0b6e4f;padding:.8rem 1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .55rem;text-align:right;border-bottom:1px solid #e3e7e5}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #9aa5a0;vertical-align:bottom}
tr.own td{font-weight:600;background:#eef6f2}small,.note{color:#56605b;font-size:.85rem}
svg{width:100%;max-width:40rem;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:#1b1f1d}
.legend span{display:inline-block;margin-right:1rem;font-size:.84rem}
.legend i{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem;vertical-align:-1px}
@media print{nav{display:none}body{max-width:none;font-size:10pt}h2{break-after:avoid}
svg,tr{break-inside:avoid}.wide{overflow:visible}th,td{white-space:normal;padding:.1rem .3rem}}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def section(name: str, heading: str, parts: Sequence[str]) -> str:
    """A section that the page's head links to."""
    return f'<section id="{escape(name)}"><h2>{escape(heading)}</h2>\n' + "\n".join(parts) + "\n</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], own: Sequence[int] = ()) -> str:
    """A table that scrolls by itself on a narrow screen; `own`: places of the rows that stand out."""
    if not rows:
        return note("Nothing to show.")
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for place, row in enumerate(rows):
        mark = ' class="own"' if place in own else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """What a reader should know of the figures beside it."""
    return paragraph(text, "note")


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"
