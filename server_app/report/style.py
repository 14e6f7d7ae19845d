"""The style sheet of a page. In Python, as Flower's app bundles carry no style sheets.

Colours are those of Okabe and Ito, and lighter ones of the same hues on a dark ground.
"""

CSS = """
:root {
  --paper: #ffffff; --card: #f6f7f9; --ink: #16181b; --soft: #5a616a; --line: #d5d9df;
  --blue: #0072b2; --vermilion: #d55e00; --green: #009e73; --purple: #b8578c;
  --orange: #b87f00; --sky: #3a92c9; --grey: #6b7178; --alarm: #fdf0e6; --black: #16181b;
  --danger: #a83200;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1c2026; --ink: #e6e9ed; --soft: #9aa3ad; --line: #333a43;
    --blue: #4aa8e0; --vermilion: #ff8a45; --green: #2fc79b; --purple: #e29fc4;
    --orange: #f0b429; --sky: #8fd0f5; --grey: #8f98a3; --alarm: #3a2413; --black: #e6e9ed;
    --danger: #ff9e66;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 80rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: clamp(1.4rem, 4vw, 1.9rem); line-height: 1.2; margin: 0; }
h1 span { font-weight: 400; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
p { margin: .5rem 0; max-width: 75ch; }
.subtitle { color: var(--soft); }
.lead { font-size: clamp(1.1rem, 2.6vw, 1.35rem); line-height: 1.45; margin: 1.2rem 0; }
.warning {
  background: var(--alarm); border: 1px solid var(--vermilion); border-left-width: .5rem;
  border-radius: .3rem; padding: .2rem .9rem .2rem .8rem; margin: 1rem 0;
}
.warning p { max-width: none; padding-left: 1.6rem; }
.warning p::before { content: "\\26a0\\fe0e"; float: left; margin-left: -1.6rem; }
.warning p::before, .warning strong { color: var(--danger); font-weight: 700; }
.figures {
  display: grid; gap: 1rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
}
figure {
  margin: 0; padding: .8rem; background: var(--card); border-radius: .5rem;
  display: flex; flex-direction: column; justify-content: space-between;
}
figcaption { font-weight: 600; line-height: 1.35; margin-bottom: .5rem; }
figcaption small { display: block; font-weight: 400; font-size: .8rem; color: var(--soft); }
small span { white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
.scroll {
  overflow-x: auto; margin: .8rem 0;
  background:
    linear-gradient(to left, var(--paper) 1rem, transparent 2rem) right / 2rem 100% no-repeat local,
    linear-gradient(to left, var(--line), transparent) right / .8rem 100% no-repeat;
}
img.wide { display: block; min-width: 36rem; width: 100%; max-width: 52rem; background: #fff; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td {
  padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal;
}
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; max-width: 18rem; overflow-wrap: break-word; }
.n { text-align: right; white-space: nowrap; padding: .3rem 0 .3rem .8rem; }
dl {
  display: grid; gap: .6rem 1.5rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
}
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--blue); }
pre {
  background: var(--card); border-radius: .5rem; padding: .8rem; overflow-x: auto;
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
pre.wrap { white-space: pre-wrap; }
code { font: inherit; }
@media (max-width: 40rem) {
  .stack thead { position: absolute; clip-path: inset(50%); }
  .stack, .stack caption, .stack tbody, .stack th { display: block; max-width: none; }
  .stack tr {
    display: flex; flex-wrap: wrap; gap: 0 1.4rem; padding: .3rem 0;
    border-bottom: 1px solid var(--line);
  }
  .stack th, .stack td { border: 0; padding: 0; overflow-wrap: anywhere; }
  .stack th { flex: 0 0 100%; }
  .stack td::before { content: attr(data-of) ": "; color: var(--soft); }
  table { font-size: .87rem; }
  table:not(.stack) { width: max-content; }
  caption { max-width: calc(100vw - 2rem); }
  table:not(.stack) tbody th { max-width: 9rem; }
  th, td { padding-right: .5rem; }
  .n { padding-left: .5rem; }
  thead .n { white-space: normal; }
}
@media print { details > * { display: block; } figure { break-inside: avoid; } }
"""
