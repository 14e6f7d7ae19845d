"""A page: one HTML file that needs nothing else, on a desk or a phone, in light or in dark."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nufed.conf.errors import InputError
from nufed.conf.files import write_whole
from nufed.conf.text import printable
from nufed.server_app.report.figures import Figure
from nufed.server_app.report.style import CSS

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the row, those after `words` are figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: int = 1
    """Columns of words, to the left."""


@dataclass(frozen=True)
class Section:
    """A part of a page: what it says, draws and lists, in this order."""

    title: str
    text: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[tuple[str, Table | Sequence[Figure] | str]] = ()
    """Tables, figures, or texts as they stand, that are shown when one asks for them."""
    code: str = ""
    """What can be typed."""
    image: str = ""
    """A data: URI of a picture that is as wide as a screen."""


def render(
    title: str, data: str, subtitle: str, lead: str, sections: Sequence[Section], warning: str
) -> str:
    """Return a page.

    Parameters
    ----------
    title, data, subtitle, lead
        What it is of, which data these are, and what it has to say in a sentence.
    warning
        What a reader has to know first, a line each; empty if nothing.
    """
    given: dict[str, Any] = {"title": title, "data": data, "subtitle": subtitle, "lead": lead}
    given["css"] = CSS
    return _template().render(given | {"sections": sections, "warning": warning})


def write(page: str, file: Path) -> None:
    """Write a page whole, or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        write_whole(file, page.encode())
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); name another by out=…"
        ) from error


def _shown(value: Any) -> Any:
    """Return what is put into a page; texts that are no markup of ours without control characters.

    A browser may hide these, and half of a surrogate pair cannot be written at all.
    """
    return printable(value, lines=True) if type(value) is str else value


def _breakable(name: str) -> Markup:
    """Return a name that may go on in the next line after what its parts end with."""
    parts = re.split(r"(?<=[=./_])(?=\w)", printable(name, lines=True))
    return Markup("<wbr>").join(parts)


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["breakable"] = _breakable
    return environment.from_string(TEMPLATE)


TEMPLATE = """\
{% macro pictures(figures) %}
<div class="figures">
{% for figure in figures %}
<figure><figcaption>{{ figure.title }}
<small>{{ data }}
{%- if figure.note %} · <span>{{ figure.note }}</span>{% endif %}</small></figcaption>
{{ figure.svg }}</figure>
{% endfor %}
</div>
{% endmacro %}
{% macro table(t) %}
{% set stack = t.words >= t.head | length %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ t.caption or t.head[0] }}">
<table{{ ' class="stack"' | safe if stack }}>
{% if t.caption %}
<caption>{{ t.caption }}</caption>
{% endif %}
<thead><tr>
{% for cell in t.head %}
<th scope="col"{{ ' class="n"' | safe if loop.index > t.words }}>{{ cell }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in t.rows %}
<tr><th scope="row">{{ row[0] | breakable }}</th>
{%- for cell in row[1:] %}
<td
{%- if loop.index >= t.words %} class="n"
{%- elif stack %} data-of="{{ t.head[loop.index] }}"
{%- endif %}>{{ cell }}</td>
{%- endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}: {{ data }}</title>
<style>{{ css | safe }}</style>
</head>
<body>
<header>
<h1>{{ title }}: <span>{{ data }}</span></h1>
<p class="subtitle">{{ subtitle }}</p>
</header>
<main>
{% if warning %}
<div class="warning" role="note">
{% for line in warning.split("\n") %}
{% set head, colon, rest = line.partition(": ") %}
{% if colon and head | length <= 60 %}
<p><strong>{{ head }}:</strong> {{ rest }}</p>
{% else %}
<p>{{ line }}</p>
{% endif %}
{% endfor %}
</div>
{% endif %}
<p class="lead">{{ lead }}</p>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for line in section.text %}
<p>{{ line }}</p>
{% endfor %}
{% if section.facts %}
<dl>
{% for name, value in section.facts %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl>
{% endif %}
{% if section.figures %}
{{ pictures(section.figures) }}
{% endif %}
{% if section.image %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ section.title }}">
<img class="wide" src="{{ section.image }}" alt="{{ section.title }}"></div>
{% endif %}
{% for t in section.tables %}
{{ table(t) }}
{% endfor %}
{% if section.code %}
<pre class="wrap"><code>{{ section.code }}</code></pre>
{% endif %}
{% for label, content in section.folded %}
<details><summary>{{ label }}</summary>
{% if content is string %}
<pre><code>{{ content }}</code></pre>
{% elif content.head is defined %}
{{ table(content) }}
{% else %}
{{ pictures(content) }}
{% endif %}
</details>
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
