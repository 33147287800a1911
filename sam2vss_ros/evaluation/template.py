"""The skeleton of the report's page: its style, and where its parts go."""

from __future__ import annotations

from string import Template

PAGE = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title: evaluation</title>
<style>
:root {
  --ink: #17202e; --soft: #647084; --rule: #e2e7ee; --page: #f4f6f9; --card: #ffffff;
  --right: #2563eb; --wrong: #e0421a; --better: #12813c; --worse: #c22a17; --bar: #7ba4f7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9f1; --soft: #98a4b8; --rule: #303948; --page: #12161d; --card: #1a2029;
    --right: #4f83ff; --wrong: #ff6a45; --better: #4cc777; --worse: #ff7d69; --bar: #4f74c4;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header, main { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 14px; }
h3 { font-size: 14px; margin: 18px 0 4px; }
header p, .note, .axis { color: var(--soft); margin: 0 0 4px; }
.note { font-size: 13px; margin-top: 8px; }
.axis { font-size: 12px; margin: 8px 0 0; }
nav {
  position: sticky; top: 0; z-index: 1; background: var(--page);
  border-bottom: 1px solid var(--rule);
}
nav div { max-width: 1240px; margin: 0 auto; padding: 10px 24px; }
nav a { color: var(--soft); text-decoration: none; margin-right: 20px; font-size: 14px; }
nav a:hover { color: var(--ink); }
section {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 20px 24px; margin: 20px 0; scroll-margin-top: 56px;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 12px; }
.tile { border: 1px solid var(--rule); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 26px; font-weight: 650; line-height: 1.2; }
.tile i { font-size: 14px; font-style: normal; color: var(--soft); margin-left: 3px; }
.tile span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.wide { width: 100%; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; }
table.wide th, table.wide td { padding: 6px 8px; }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: 13px; vertical-align: bottom; }
tr th:first-child, table.wide tr th:first-child { text-align: left; padding-left: 0; }
tbody tr { border-top: 1px solid var(--rule); }
tfoot tr { border-top: 2px solid var(--rule); }
td.soft { color: var(--soft); }
td.meaning { color: var(--soft); font-size: 13px; text-align: left; white-space: normal; }
td.bar {
  background: linear-gradient(to right, var(--bar) var(--share), var(--rule) var(--share));
  background-size: 100% 3px; background-position: bottom; background-repeat: no-repeat;
  background-origin: content-box; background-clip: content-box;
}
.delta { display: inline-block; min-width: 42px; font-size: 12px; margin-left: 6px; }
.delta.better { color: var(--better); }
.delta.worse { color: var(--worse); }
.delta.same { color: var(--soft); }
.chip {
  display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 8px;
  vertical-align: -1px; border: 1px solid rgb(0 0 0 / 20%);
}
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 8px; font-size: 13px; }
.heat td, .heat th { padding: 0 6px; height: 30px; }
.heat td { min-width: 38px; text-align: center; font-size: 12px; border: 1px solid var(--card); }
.heat td.dark { color: #ffffff; }
.heat .tilt { writing-mode: vertical-rl; transform: rotate(180deg); padding-top: 4px; }
.heat thead th { text-align: center; }
.chart { width: 100%; height: auto; display: block; }
.chart text { font-size: 11px; fill: var(--soft); }
.chart .grid { stroke: var(--rule); }
.chart .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.chart .hover { fill: var(--ink); fill-opacity: 0; }
.chart .hover:hover { fill-opacity: 0.12; }
figure { margin: 0 0 22px; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13px; }
figcaption span { color: var(--soft); }
figure img { width: 100%; display: block; border-radius: 4px; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); font-size: 12px; }
.panels span { color: var(--soft); }
details { border-top: 1px solid var(--rule); padding: 8px 0; }
summary { cursor: pointer; font-weight: 600; margin-bottom: 8px; overflow-wrap: anywhere; }
dl {
  display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; font-size: 13px;
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre {
  background: var(--page); border-radius: 6px; padding: 10px 14px; font-size: 13px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
@media print { nav { display: none; } section { break-inside: avoid; } }
</style>
</head>
<body>
<header><p>sam2vss evaluate</p><h1>$title</h1><p>$source</p><p>$facts</p></header>
<nav><div>$links</div></nav>
<main>$body</main>
</body>
</html>
"""
)
