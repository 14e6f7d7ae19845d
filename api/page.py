"""A page of a report: shown in a notebook where it is, and kept as a file that needs no network."""

from html import escape
from pathlib import Path

from nufed.server_app.report.page import write

HEIGHT = 640  # pixels


class Page:
    """A page.

    Parameters
    ----------
    html
        The page.
    title
        What it is of.
    """

    def __init__(self, html: str, title: str) -> None:
        self.html, self._title = html, title

    def save(self, file: str | Path) -> Path:
        """Write the page, and return its file.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        write(self.html, Path(file))
        return Path(file)

    def _repr_html_(self) -> str:
        # Apart from the notebook's own page: neither sees the styles and scripts of the other.
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"{self._title}: shown in a notebook, or written by save(file)"
