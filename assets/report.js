// Draws the report's figures when they come near the window. A browser holds a dozen or so WebGL contexts, so that figures that use
// them are taken down again when they are far away; what the reader chose (layer, colours, zoom) is kept.
const figures = Array.from(document.querySelectorAll("figure[data-figure]"), (element) => ({
  element, plot: element.querySelector(".plot"), shown: null, drawn: false, wanted: false, busy: false,
}));

function usesWebGL(shown) {
  return shown.data.some((trace) => trace.type === "scattergl" || trace.type === "scatter3d");
}

async function draw(figure) {
  const { element, plot } = figure;
  figure.shown = figure.shown || JSON.parse(document.getElementById(element.dataset.figure).textContent);
  const { data, layout, config } = figure.shown;
  await Plotly.newPlot(plot, data, layout, config);
}

function takeDown(figure) {
  const { plot, shown } = figure;
  const canvases = Array.from(plot.querySelectorAll("canvas"));
  figure.shown = { data: plot.data, layout: plot.layout, config: shown.config };
  Plotly.purge(plot);
  canvases.forEach((canvas) => canvas.getContext("webgl")?.getExtension("WEBGL_lose_context")?.loseContext());
}

// Drawing takes a while, and a reader who scrolls may change what is wanted meanwhile: one step after the other.
async function settle(figure) {
  if (figure.busy) return;
  figure.busy = true;
  while (figure.drawn !== figure.wanted) {
    if (figure.drawn && !usesWebGL(figure.shown)) break;
    if (figure.wanted) await draw(figure); else takeDown(figure);
    figure.drawn = !figure.drawn;
  }
  figure.busy = false;
}

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const figure = figures.find(({ element }) => element === target);
    figure.wanted = isIntersecting;
    settle(figure);
  }
}, { rootMargin: "300px" });
figures.forEach(({ element }) => near.observe(element));

// On paper everything is seen.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  near.disconnect();
  figures.forEach((figure) => { figure.wanted = true; settle(figure); });
});
