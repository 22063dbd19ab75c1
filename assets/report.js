// Draws the report's figures when they come near the window: a browser holds a dozen or so WebGL contexts, so that figures that use
// them are taken down again when they are far away, and keep what the reader chose (layer, colours, zoom).
const figures = Array.from(document.querySelectorAll("figure[data-figure]"));
const kept = new Map();

function specification(figure) {
  const name = figure.dataset.figure;
  if (!kept.has(name)) kept.set(name, JSON.parse(document.getElementById(name).textContent));
  return kept.get(name);
}

function usesWebGL(drawn) {
  return drawn.data.some((trace) => trace.type === "scattergl" || trace.type === "scatter3d");
}

function draw(figure) {
  if (figure.dataset.drawn) return;
  figure.dataset.drawn = "yes";
  const { data, layout, config } = specification(figure);
  Plotly.newPlot(figure.querySelector(".plot"), data, layout, config);
}

function takeDown(figure) {
  const plot = figure.querySelector(".plot"), drawn = specification(figure);
  if (!figure.dataset.drawn || !plot.data || !usesWebGL(drawn)) return;
  const canvases = Array.from(plot.querySelectorAll("canvas"));
  kept.set(figure.dataset.figure, { data: plot.data, layout: plot.layout, config: drawn.config });
  Plotly.purge(plot);
  canvases.forEach((canvas) => canvas.getContext("webgl")?.getExtension("WEBGL_lose_context")?.loseContext());
  delete figure.dataset.drawn;
}

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) (isIntersecting ? draw : takeDown)(target);
}, { rootMargin: "400px" });
figures.forEach((figure) => near.observe(figure));

// On paper everything is seen.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  near.disconnect();
  figures.forEach(draw);
});
