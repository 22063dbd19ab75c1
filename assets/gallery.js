// Draws the figures of a gr.HTML, each with its caption, as soon as they can be seen; `element`, `props` and `watch` are
// Gradio's. Plotly is there once Gradio has drawn a plot of its own. A value with `move` moves the points of the figure that
// is there, so that a map can be watched while it forms.
const place = element.querySelector(".strata-figures");
const waiting = new Map();

function take(value) {
  if (!value) return;
  if (value.move) move(value.move);
  else if (value.figures) show(value.figures);
}

function show(figures) {
  for (const box of place.querySelectorAll(".js-plotly-plot")) window.Plotly.purge(box);
  waiting.clear();
  place.replaceChildren(...figures.map(({ figure, caption }) => {
    const cell = document.createElement("figure"), box = document.createElement("div");
    const words = document.createElement("figcaption");
    words.innerHTML = "<details><summary>How to read this</summary><p></p></details>";
    words.querySelector("p").textContent = caption;
    box.className = "strata-plot";
    waiting.set(box, JSON.parse(figure));
    box.style.minHeight = `${waiting.get(box).layout.height}px`;
    cell.append(box, words);
    return cell;
  }));
  drawWaiting();
}

function drawWaiting() {
  if (!window.Plotly) return;
  for (const [box, figure] of waiting) {
    if (!box.clientWidth) continue;
    waiting.delete(box);
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Figure: ${figure.layout.title?.text ?? "values"}`);
    window.Plotly.newPlot(box, figure.data, figure.layout, figure.config);
  }
}

function move({ x, y, limit }) {
  drawWaiting();
  const box = place.querySelector(".js-plotly-plot");
  if (!box || !box.calcdata) return;
  const range = [-limit, limit];
  window.Plotly.update(box, { x: [x], y: [y] }, { "xaxis.range": range, "yaxis.range": range }, [0]);
}

watch("value", () => take(props.value));
take(props.value);
const timer = setInterval(() => { if (element.isConnected) drawWaiting(); else clearInterval(timer); }, 200);
