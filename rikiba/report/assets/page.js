"use strict";
// Draws the page's figures and scenes from the data beside them, in the colours of the theme, and says what it did
// in attributes of <body>: data-figures, data-scenes, data-frames, data-pixels, data-state.

const dataOf = (host) => JSON.parse(host.querySelector('script[type="application/json"]').textContent);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(figure) {
  const data = figure.data.map((trace) => {
    const { index, role } = trace.meta;
    const own = role === "guide" ? color("--muted") : color(`--c${index % 7}`);
    const out = { ...trace, line: { ...trace.line, color: own }, marker: { ...trace.marker, color: own } };
    if (role === "band") out.fillcolor = own + "33";
    if (trace.error_y) out.error_y = { ...trace.error_y, color: own };
    return out;
  });
  const axis = {
    gridcolor: color("--grid"), zerolinecolor: color("--rule"), linecolor: color("--muted"), showline: true, mirror: false,
    ticks: "outside", tickcolor: color("--muted"), ticklen: 4, automargin: true, exponentformat: "power",
  };
  const layout = {
    ...figure.layout,
    xaxis: { ...axis, ...figure.layout.xaxis, title: { ...figure.layout.xaxis.title, standoff: 8 } },
    yaxis: { ...axis, ...figure.layout.yaxis, title: { ...figure.layout.yaxis.title, standoff: 8 } },
    font: { family: color("--sans"), size: 13, color: color("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 64, r: 14, t: figure.layout.showlegend ? 8 : 14, b: 52 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("--rule"), activecolor: color("--accent") },
    hoverlabel: { bgcolor: color("--surface"), bordercolor: color("--rule"), font: { color: color("--ink") } },
  };
  return [data, layout];
}

async function drawPage() {
  const body = document.body.dataset;
  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const modeBar = matchMedia("(hover: none)").matches ? false : "hover";
  const options = { responsive: true, displayModeBar: modeBar, displaylogo: false, modeBarButtons: buttons };
  const plots = [...document.querySelectorAll(".plot")].map((host) => [host, dataOf(host)]);
  const viewers = [];
  const pause = () => new Promise((done) => setTimeout(done));
  for (const host of document.querySelectorAll(".viewer")) {
    viewers.push(new Viewer(host, dataOf(host)));
    await pause();
  }
  let figures = 0;
  for (const [host, figure] of plots) {
    await Plotly.newPlot(host, ...themed(figure), options);
    figures += host.querySelectorAll(".main-svg").length > 0 ? 1 : 0;
    await pause();
  }
  const retheme = () => {
    for (const [host, figure] of plots) Plotly.react(host, ...themed(figure), options);
    for (const viewer of viewers) viewer.theme();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
    retheme();
  });
  matchMedia("print").addEventListener("change", retheme);
  body.figures = String(figures);
  body.scenes = String(viewers.length);
  body.frames = viewers.map((v) => v.data.frames).join(" ");
  body.pixels = viewers.map((v) => v.drawnPixels()).join(" ");
  body.state = "ready";
}

drawPage().catch((error) => {
  document.body.dataset.state = "failed";
  console.error(`The page could not be drawn: ${error && error.stack ? error.stack : error}`);
});
