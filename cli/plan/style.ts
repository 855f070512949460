/** The page's style. Series colours keep 3:1 against their ground and apart for colour-blind readers; text never wears them. */
export const STYLE = `
:root{--ground:#fcfcfb;--raised:#ffffff;--ink:#0b0b0b;--soft:#52514e;--rule:#e4e3df;--s1:#2a78d6;--s2:#d95926;--s3:#8a8984;--good:#006300;--bad:#b3261e;--warn:#7a4d00}
@media (prefers-color-scheme:dark){:root{--ground:#1a1a19;--raised:#232322;--ink:#ffffff;--soft:#c3c2b7;--rule:#3a3a37;--s1:#3987e5;--s2:#e8764a;--s3:#94938c;--good:#4cc24c;--bad:#ff8a80;--warn:#f0b429}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.15rem;margin:32px 0 12px}h3{font-size:1rem;margin:0}
p{margin:4px 0}header p,figcaption p,li{color:var(--soft)}
.verdict{margin-top:14px;padding:12px 14px;background:var(--raised);border:1px solid var(--rule);border-radius:8px;color:var(--ink)!important}
.verdict.met strong{color:var(--good)}.verdict.not_met strong{color:var(--bad)}.verdict.unknown strong{color:var(--warn)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0}
dl div,figure{background:var(--raised);border:1px solid var(--rule);border-radius:8px;padding:12px 14px}
dt{color:var(--soft);font-size:.85rem}dd{margin:2px 0 0;font-size:1.3rem;font-weight:600}
dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px;margin-top:16px}
figure{margin:0;min-width:0}figcaption p{font-size:.85rem;min-height:2.6em}
svg{display:block;width:100%;height:auto;margin-top:6px}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg .name{fill:var(--ink)}svg .note{fill:var(--ink);paint-order:stroke;stroke:var(--raised);stroke-width:3px}
.grid{stroke:var(--rule)}.base{stroke:var(--s3)}.mark{stroke:var(--soft);stroke-dasharray:4 3}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2)}.line.s3{stroke:var(--s3)}
.area{opacity:.14}.area.s1{fill:var(--s1)}
.dot{stroke:var(--raised);stroke-width:1.5}.dot.s1{fill:var(--s1)}.dot.s3{fill:var(--s3)}
.ring{fill:var(--raised);stroke-width:2}.ring.s1{stroke:var(--s1)}.ring.s3{stroke:var(--s3)}
.track{fill:var(--rule)}.bar.s1{fill:var(--s1)}.whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.85rem}.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.legend .s1{background:var(--s1)}.legend .s2{background:var(--s2)}
details{margin-top:8px;font-size:.85rem}summary{cursor:pointer;color:var(--soft)}
.wide{overflow-x:auto}.wide:focus-visible{outline:2px solid var(--s1)}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left}
section>.wide th:nth-child(2),section>.wide td:nth-child(2){text-align:left}
`;
