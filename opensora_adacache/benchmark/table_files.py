"""Write the tables of benchmarks as Markdown, CSV and LaTeX, and the tables of studies as Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from opensora_adacache.benchmark.description import ComparisonRecord
from opensora_adacache.benchmark.table import MEASURED, ORACLE, Table
from opensora_adacache.media.files import write_file

_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after \\ it would start an optional argument
    "]": "{]}",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "²": r"$^2$",
    "–": "--",
    "“": "``",
    "”": "''",
}


def write_markdown(path: Path, tables: Sequence[Table], comparison: ComparisonRecord, notes: Sequence[str]) -> None:
    """Write the tables as Markdown, each under its title, and the notes.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [f"# {escape_markdown(comparison.title)}", ""]
    for table in tables:
        lines += [f"## {escape_markdown(table.title)}", ""]
        lines.append(_markdown_line(["Method", "Source", *(column.title for column in table.columns)]))
        lines.append(_markdown_line(["---", "---", *("---:" for _ in table.columns)]))
        for line in table.lines:
            cells = (cell.full_text or "–" for cell in line.cells)
            lines.append(_markdown_line([escape_markdown(line.title), line.source, *cells]))
        lines.append("")
    lines += [f"- {escape_markdown(note)}" for note in notes]
    write_file(path, ("\n".join(lines) + "\n").encode())


def write_csv(path: Path, tables: Sequence[Table], comparison: ComparisonRecord) -> None:
    """Write one CSV line per method with all figures in full precision. Figures with an interval take three columns.

    Raises:
        OSError: the file cannot be written.
    """
    lines: dict[tuple[str, str], dict[str, object]] = {}
    names = ["setting", "method", "source", "machine", "date"]
    for table in tables:
        for line in table.lines:
            empty: dict[str, object] = {"setting": line.name, "method": line.title, "source": line.source}
            record = lines.setdefault((line.name, line.source), empty)
            if line.source in (MEASURED, ORACLE):
                record |= {"machine": comparison.machine, "date": comparison.date}
            else:
                record |= {"machine": comparison.paper_source}
            for column, cell in zip(table.columns, line.cells, strict=True):
                record[column.key] = cell.value
                if cell.interval:
                    record |= {f"{column.key}_low": cell.interval.low, f"{column.key}_high": cell.interval.high}
        for column in table.columns:
            has_interval = any(f"{column.key}_low" in record for record in lines.values())
            names += [column.key, *((f"{column.key}_low", f"{column.key}_high") if has_interval else ())]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines.values())
    write_file(path, text.getvalue().encode())


def write_latex(path: Path, tables: Sequence[Table], comparison: ComparisonRecord, notes: Sequence[str]) -> None:
    """Write the tables as LaTeX for ``\\input``. They need the packages booktabs and graphicx.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [f"% {escape_latex(comparison.title)}; needs \\usepackage{{booktabs,graphicx}}"]
    for table in tables:
        caption = escape_latex(" ".join([f"{table.title}.", *notes]) if table is tables[0] else table.title)
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{table.key}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
            r"\toprule",
            _latex_line(["Method", "Source", *(column.title for column in table.columns)]),
            r"\midrule",
        ]
        for line in table.lines:
            lines.append(_latex_line([line.title, line.source, *(cell.full_text or "–" for cell in line.cells)]))
        lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""]
    write_file(path, "\n".join(lines).encode())


def write_study(path: Path, title: str, command: str, lines: Sequence[str]) -> None:
    """Write the Markdown page of a study, with the command that made it.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, "\n".join([f"# {title}", "", f"Made by `{command}`.", "", *lines, ""]).encode())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, line by line. Cells may contain markup.

    >>> markdown_table(("policy", "steps"), [("**ours**", "12")])
    ['| policy | steps |', '| --- | --- |', '| **ours** | 12 |']
    """
    return [_markdown_line(columns), _markdown_line(["---"] * len(columns)), *map(_markdown_line, rows)]


def escape_markdown(text: str) -> str:
    r"""Escape characters that Markdown would read as markup in a cell.

    >>> escape_markdown("a_b | c*")
    'a\\_b \\| c\\*'
    """
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    r"""Escape characters that LaTeX would read as markup.

    >>> print(escape_latex("Δ-DiT 95 % a_b"))
    $\Delta$-DiT 95 \% a\_b
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"
