"""What was diagnosed, under its bounds where the certificate was drawn."""

import base64

from nufed.conf.files import is_there, read_bytes
from nufed.server_app.report import run_figures as draw
from nufed.server_app.report.page import Section
from nufed.server_app.report.record import CERTIFICATE, Record

LARGEST_PICTURE = 1 << 24  # bytes; nufed-certify draws one of some 50 kB


def theory(run: Record) -> Section | None:
    """Show what was diagnosed: under its bounds, where the certificate was drawn."""
    figures = draw.diagnosed(run)
    certificate = run.folder / CERTIFICATE
    if not figures:
        return None
    if not is_there(certificate):
        text = "nufed-certify, given this run's folder, draws the bounds of the theory beside it."
        return Section("How far from a stationary point", [text], figures=figures)
    content = base64.b64encode(read_bytes(certificate, largest=LARGEST_PICTURE)).decode()
    return Section(
        "How far from a stationary point",
        figures=figures,
        image=f"data:image/svg+xml;base64,{content}",
    )
