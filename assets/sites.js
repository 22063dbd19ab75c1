// Ties the figures of "What it learned" to the choice of a site: a click on a row of a matrix, or on a point of a map, asks the
// server for the similarity of all sites to that one. `element`, `props`, `watch` and `trigger` are Gradio's.
const PLACES = "#learned-matrices, #learned-maps, #learned-embeddings";

function siteOf({ customdata, data, y }) {
  if (data.type === "heatmap") return props.value?.order?.[data.y.indexOf(y)];
  return customdata;
}

function hook(graph) {
  graph.dataset.strata = "sites";
  graph.on("plotly_click", ({ points }) => {
    const site = siteOf(points[0]);
    if (site !== undefined) trigger("chosen", { site: Number(site) });
  });
}

const timer = setInterval(() => {
  if (!element.isConnected) { clearInterval(timer); return; }
  for (const place of document.querySelectorAll(PLACES)) {
    for (const graph of place.querySelectorAll(".js-plotly-plot")) if (graph.on && graph.calcdata && !graph.dataset.strata) hook(graph);
  }
}, 250);
