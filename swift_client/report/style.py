"""The report's style sheet: light and dark, phone and paper, colours that the colour-blind can tell apart.

Blue and orange (Okabe and Ito's, darkened or lightened for contrast) stand for up and down; a sign, a mark or a label
always says the same again.
"""

from swift_client.report.token_heatmap import COLOUR_LEVELS

_SHADES = "".join(
    f".tokens .{side}{level}{{background:rgb(var(--{name})/{0.85 * level / COLOUR_LEVELS:.2f})}}"
    for side, name in (("u", "raise"), ("d", "lower"))
    for level in range(1, COLOUR_LEVELS + 1)
)

_LIGHT_COLOURS = (
    "--ink:#1a1d21;--soft:#5a626b;--faint:#5f666e;--line:#dce0e5;--paper:#fff;--card:#f6f7f9;--raise:120 180 235;"
    "--lower:245 170 95;--up:#0b5cad;--down:#a83f00;--vote:#0b5cad;--best:#0b5cad;--majority:#b84a00;--first:#6b6f76;"
    "--oracle:#6b6f76;--free:#007a58"
)
_DARK_COLOURS = (
    "--ink:#e8ebef;--soft:#a4adb7;--faint:#8d96a0;--line:#363c44;--paper:#111417;--card:#1a1e23;--raise:42 98 160;"
    "--lower:148 78 20;--up:#74b6ff;--down:#ff9e57;--vote:#74b6ff;--best:#74b6ff;--majority:#ff9e57;--first:#a4adb7;"
    "--oracle:#a4adb7;--free:#3ecf9f"
)

_SHEET = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:anywhere}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:clamp(1.5rem,4.5vw,2.4rem);line-height:1.15;margin:.2rem 0 .8rem;letter-spacing:-.02em;text-wrap:balance}
h2{font-size:1.35rem;margin:3rem 0 .6rem}
h3{font-size:1rem;margin:0 0 .5rem}
p{margin:.4rem 0 .8rem;max-width:75ch}
.lead{font-size:1.1rem}
.soft,small,figcaption,footer{color:var(--soft)}
.up{color:var(--up)}.down{color:var(--down)}
.up::before{content:"\\25b2\\00a0";font-size:.7em}.down::before{content:"\\25bc\\00a0";font-size:.7em}
.tiles{list-style:none;display:flex;flex-wrap:wrap;gap:.6rem;padding:0;margin:0 0 1.2rem}
.tiles li{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.6rem .9rem;flex:1 1 8.5rem}
.tiles span,.tiles small{display:block;color:var(--soft);font-size:.85rem}
.tiles b{font-size:1.6rem;line-height:1.2;font-variant-numeric:tabular-nums}
details{margin:.6rem 0;border-top:1px solid var(--line);padding-top:.5rem}
summary{cursor:pointer;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.6rem 2rem}
figure{margin:0;min-width:0}
figcaption{font-size:.9rem;margin-top:.4rem}
svg.chart{width:100%;max-width:34rem;height:auto;display:block;font-family:inherit}
svg text{fill:var(--ink);font-size:12.5px}
svg .tick,svg .title,svg .note{fill:var(--soft);font-size:12px}
svg .note{font-style:italic}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.band{opacity:.13;stroke:none}
.leader{fill:none;stroke-width:.8;opacity:.6}
.ideal{fill:none;stroke:var(--soft);stroke-dasharray:4 4}
.gap{stroke:var(--vote);stroke-width:1.2;opacity:.6}
.head-vote.line{stroke-width:3}
.head.line{stroke-dasharray:6 3}
.oracle.line{stroke-dasharray:2 4}
.first.line{stroke-dasharray:1 0}
.free.line{stroke-dasharray:8 3 2 3}
svg .label{font-weight:600}
.bar.right{fill:var(--vote)}.bar.wrong{fill:var(--majority)}
svg .label.right{fill:var(--vote)}svg .label.wrong{fill:var(--majority)}
.scroll{overflow-x:auto;max-width:100%;margin:.5rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
.scroll table{min-width:100%}
th,td{padding:.35rem .9rem .35rem .3rem;text-align:left;vertical-align:top;border-top:1px solid var(--line);
font-weight:400}
.scroll td{white-space:nowrap}
thead th{color:var(--soft);border-top:0;white-space:nowrap}
tbody th{position:sticky;left:0;background:var(--paper);min-width:8.5rem;max-width:14rem}
td small,th small{display:block;font-size:.8em;white-space:nowrap}
td b{margin-left:.5em;font-weight:400;color:var(--soft)}
td b.up,td b.down{font-weight:600}td b.up{color:var(--up)}td b.down{color:var(--down)}
.kind th{color:var(--soft);padding-top:1rem;font-size:.85em}
.cost th,.cost td{color:var(--soft)}
.ours th,.ours td{background:var(--card);font-weight:600}.ours small{font-weight:400}
.versus th{font-weight:600}
.facts-table td{overflow-wrap:anywhere}
.facts-table th{color:var(--soft)}
.spark{width:120px;height:14px;display:block}
article{border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.1rem;margin:1.2rem 0}
article h3{font-weight:400;color:var(--soft);font-size:.9rem}
.facts .right{color:var(--up)}.facts .wrong{color:var(--down)}
.told{font-weight:600;margin-right:.6em;color:var(--ink)}.told.up{color:var(--up)}.told.down{color:var(--down)}
.prompt{white-space:pre-wrap}
.candidate{border-left:3px solid var(--line);padding:.1rem 0 .1rem .8rem;margin:1rem 0}
.candidate.won{border-color:var(--ink)}
.facts{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.88rem;color:var(--soft);margin:0 0 .2rem;max-width:none}
.facts span b{color:var(--ink);font-weight:600;font-variant-numeric:tabular-nums}
.facts .pick{color:var(--ink);font-weight:600}
.tokens{max-width:none;margin:.2rem 0}
p.tokens:not(.legend){white-space:pre-wrap;line-height:1.75;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,
"DejaVu Sans Mono",monospace;font-size:.86rem}
.tokens i{font-style:normal;border-radius:.2em;padding:.12em 0}
.tokens i:hover{outline:1.5px solid var(--ink)}
.tokens .f{color:var(--faint)}
.legend{font-size:.9rem;max-width:75ch}.scale{display:block;white-space:nowrap;font-variant-numeric:tabular-nums}
.shades i{display:inline-block;width:1.3em;border-radius:0;padding:0}
footer{margin-top:3rem;font-size:.85rem}
@media(max-width:30rem){main{padding:1rem .9rem 2rem}article{padding:.8rem .8rem}
tbody th{min-width:6.5rem;max-width:8.5rem}}
@media print{.figures{grid-template-columns:1fr 1fr}body{font-size:11px}
main{max-width:none;padding:0}.scroll{overflow:visible}
details::details-content{content-visibility:visible;display:block}
.tokens i,.tiles li,.ours th,.ours td,.bar{print-color-adjust:exact;-webkit-print-color-adjust:exact}
figure,.candidate,tr{break-inside:avoid}h2,h3{break-after:avoid}}
"""

_LINES = "".join(
    f".{name}.line,.{name}.leader{{stroke:var(--{colour})}}.{name}.band,.{name}.dot,svg .label.{name}"
    f"{{fill:var(--{colour})}}"
    for name, colour in (
        ("head-vote", "vote"),
        ("head", "best"),
        ("majority", "majority"),
        ("first", "first"),
        ("oracle", "oracle"),
        ("free", "free"),
    )
)

STYLE = (
    f":root{{color-scheme:light dark;{_LIGHT_COLOURS}}}@media(prefers-color-scheme:dark){{:root{{{_DARK_COLOURS}}}}}"
    f"@media print{{:root{{color-scheme:light;{_LIGHT_COLOURS}}}}}{_SHEET}{_LINES}{_SHADES}"
)
"""The whole sheet."""
