"""Pages in a real browser, headless Chromium: quiet, self-contained, and readable on a phone."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nufed.server_app.report.comparison_page import write_comparison
from tests.forked import LIMIT_S
from tests.helpers import RunResult
from tests.server_app.report.helpers import labelled

Train = Callable[..., RunResult]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHONE, DESK = 360, 1200
# A page in a frame of a phone's width, and what a script outside of it finds.
FRAME = """<!DOCTYPE html><body><iframe src="/page.html" style="width:{width}px;height:900px"
onload="look(this.contentDocument)"></iframe><pre id="found"></pre><script>
function look(page) {{
  page.querySelectorAll("details").forEach(d => d.open = true);
  const texts = [...page.querySelectorAll("svg text")].map(t => {{
    const svg = t.closest("svg").getBoundingClientRect(), box = t.getBoundingClientRect();
    const scale = svg.width / t.closest("svg").viewBox.baseVal.width;
    return {{
      text: t.textContent, pixels: parseFloat(getComputedStyle(t).fontSize) * scale,
      outside: Math.max(svg.left - box.left, box.right - svg.right,
                        svg.top - box.top, box.bottom - svg.bottom),
    }};
  }});
  const style = getComputedStyle(page.body);
  document.getElementById("found").textContent = JSON.stringify({{
    texts, overflow: page.documentElement.scrollWidth - page.defaultView.innerWidth,
    wide: [...page.querySelectorAll(".stack")].filter(t => t.scrollWidth > page.body.clientWidth)
      .length,
    paper: style.backgroundColor, ink: style.color,
    cut: [...page.querySelectorAll("table:not(.stack) tr")].filter(row => {{
      const box = row.closest(".scroll");
      box.scrollLeft = box.scrollWidth;
      const end = row.lastElementChild.getBoundingClientRect().right;
      return end > box.getBoundingClientRect().right + 1;
    }}).length,
    columns: getComputedStyle(page.querySelector(".figures")).gridTemplateColumns.split(" ").length,
  }});
}}
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """Serve files, and remember what was asked for."""

    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Serve a folder; yield it, its address, and the paths that were asked for."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = type("Recorder", (Handler,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


def browse(address: str, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Load a page; return its document, once scripts have run, and what the console said."""
    if CHROMIUM is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip
        give_up("Chromium is not there; apt-get install chromium")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", *options),
        *("--dump-dom", address),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def seen(site: tuple[Path, str, list[str]], page: Path, width: int, *options: str) -> Any:
    """Return what a browser finds on a page of some width; the console stays silent."""
    folder, address, asked = site
    shutil.copy(page, folder / "page.html")
    (folder / "frame.html").write_text(FRAME.format(width=width))
    asked.clear()
    profile = folder.parent / f"profile-{width}"  # its own: what is cached is not asked for again
    document, console = browse(f"{address}/frame.html", profile, *options)
    assert console == []
    assert set(asked) - {"/favicon.ico"} == {"/frame.html", "/page.html"}
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)
    return json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def require_readable(found: Any) -> None:
    """No text in a figure is cut off or tiny, and the page is no wider than its frame."""
    assert found["overflow"] <= 0
    assert found["wide"] == 0, "tables of words stand within the page"
    assert found["cut"] == 0, "the last column of a table can be scrolled to"
    assert len(found["texts"]) > 20
    assert [text for text in found["texts"] if text["outside"] > 1] == []
    assert min(text["pixels"] for text in found["texts"]) > 9


def brightness(colour: str) -> float:
    """Return how bright ``rgb(r, g, b)`` is, from 0 to 255."""
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_a_report_is_quiet_and_readable(
    train: Train, tmp_path: Path, site: tuple[Path, str, list[str]]
) -> None:
    """On a phone in the dark, and on a desk in the light, where figures stand side by side."""
    run = train([*labelled(tmp_path), "diagnostics.every=2"], report=True)
    page = run.folder / "report.html"
    phone = seen(site, page, PHONE, "--blink-settings=preferredColorScheme=0")
    desk = seen(site, page, DESK, "--blink-settings=preferredColorScheme=1")
    for found in (phone, desk):
        require_readable(found)
    assert (phone["columns"], desk["columns"]) == (1, 3)
    assert brightness(phone["paper"]) < 60 < 200 < brightness(phone["ink"])
    assert brightness(desk["ink"]) < 60 < 200 < brightness(desk["paper"])


def test_a_comparison_is_quiet_and_readable(
    train: Train, tmp_path: Path, site: tuple[Path, str, list[str]]
) -> None:
    """With names longer than a phone is wide."""
    base = [*labelled(tmp_path), "rounds=2"]
    adam = "strategy.optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.001}"
    runs = [train([*base, *more]) for more in ([], ["seed=1"], [adam])]
    page = tmp_path / "comparison.html"
    write_comparison([run.folder for run in runs], page)
    require_readable(seen(site, page, PHONE))


def test_what_is_amiss_would_be_heard(tmp_path: Path, site: tuple[Path, str, list[str]]) -> None:
    """An error and a picture from elsewhere, in a page that allows neither."""
    folder, address, _ = site
    head = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'">"""
    body = '<img src="http://example.invalid/a.png"><script>1</script>'
    (folder / "bad.html").write_text(f"<!DOCTYPE html>{head}{body}")
    _, console = browse(f"{address}/bad.html", tmp_path / "profile")
    assert any("example.invalid" in line for line in console)
    assert any("script" in line for line in console)
