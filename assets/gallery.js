// Draws the figures of a gr.HTML, each with its caption, as soon as they can be seen; `element`, `props` and `watch` are
// Gradio's. Plotly is there once Gradio has drawn a plot of its own. A value with `move` moves the points of the figure that
// is there, so that a map can be watched while it forms; one with `again` redraws the figures that are there, without a flicker.
const place = element.querySelector(".strata-figures");
const waiting = new Map();
// Below this width, in pixels, names in legends would be cut off.
const NARROW = 520, LONGEST = 26;

function take(value) {
  if (!value) return;
  if (value.move) move(value.move);
  else if (value.figures && !(value.again && redraw(value.figures))) show(value.figures);
}

function show(figures) {
  for (const box of place.querySelectorAll(".js-plotly-plot")) window.Plotly.purge(box);
  waiting.clear();
  place.replaceChildren(...figures.map(cellOf));
  drawWaiting();
}

// Returns whether there are as many figures already, all drawn.
function redraw(figures) {
  const cells = Array.from(place.children), boxes = cells.map((cell) => cell.querySelector(".js-plotly-plot"));
  if (!cells.length || cells.length !== figures.length || boxes.some((box) => !box?.calcdata)) return false;
  figures.map(cellOf).forEach((fresh, i) => {
    const figure = waiting.get(fresh.querySelector(".strata-plot"));
    waiting.delete(fresh.querySelector(".strata-plot"));
    for (const part of ["h3", ":scope > p", "details p"]) cells[i].querySelector(part).textContent = fresh.querySelector(part).textContent;
    if (boxes[i].clientWidth < NARROW) narrow(figure, boxes[i].clientWidth);
    window.Plotly.react(boxes[i], figure.data, figure.layout, figure.config);
  });
  return true;
}

function cellOf({ figure, caption }) {
  const cell = document.createElement("figure"), drawing = JSON.parse(figure);
  cell.innerHTML = `<h3></h3><p></p><div class="strata-plot"></div>
    <figcaption><details><summary>How to read this</summary><p></p></details></figcaption>`;
  const [heading, below, box] = cell.children, { title } = drawing.layout;
  // A title of the page wraps where it is narrow; one of the figure is cut off.
  heading.textContent = plain(title?.text);
  below.textContent = plain(title?.subtitle?.text);
  cell.querySelector("details p").textContent = caption;
  delete drawing.layout.title;
  drawing.layout.margin.t = Math.max(drawing.layout.updatemenus?.some(({ visible }) => visible !== false) ? 34 : 12, drawing.layout.margin.t - 54);
  box.style.minHeight = `${drawing.layout.height}px`;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Figure: ${heading.textContent}`);
  waiting.set(box, drawing);
  return cell;
}

// Texts of a figure are Plotly's markup.
function plain(markup) {
  return (markup ?? "").replace(/<[^>]*>/g, " ").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

function drawWaiting() {
  if (!window.Plotly) return;
  for (const [box, figure] of waiting) {
    if (!box.clientWidth) continue;
    waiting.delete(box);
    // A matrix is square: in a narrow place it needs less height.
    const { layout } = figure;
    if (layout.yaxis?.constrain === "domain") layout.height = Math.min(layout.height, Math.max(300, box.clientWidth));
    if (box.clientWidth < NARROW) narrow(figure, box.clientWidth);
    box.style.minHeight = "";
    window.Plotly.newPlot(box, figure.data, layout, figure.config);
  }
}

function narrow({ data, layout }, width) {
  for (const trace of data) if (trace.name) trace.name = wrapped(trace.name);
  layout.legend = { ...layout.legend, font: { ...layout.legend?.font, size: 11 } };
  // Names stand below each other here, and Plotly gives them half of the figure before it makes them scroll.
  const lines = data.filter(({ name, showlegend }) => name && showlegend !== false).flatMap(({ name }) => name.split("<br>"));
  layout.height = Math.max(layout.height, Math.min(layout.height + 80, 2 * (80 + 19 * lines.length)));
  // A map has equal axes: what is higher than wide stays empty.
  if (layout.yaxis?.scaleanchor) layout.height = Math.min(layout.height, width + 170);
}

// Breaks a long name at its last blank that fits.
function wrapped(name) {
  const at = name.length > LONGEST ? name.lastIndexOf(" ", LONGEST) : -1;
  return at > 0 ? `${name.slice(0, at)}<br>${wrapped(name.slice(at + 1))}` : name;
}

function move({ x, y, limit, layer, note }) {
  drawWaiting();
  const box = place.querySelector(".js-plotly-plot");
  if (!box || !box.calcdata) return;
  // The reader may have gone on to the map of another layer.
  if (![undefined, String(layer)].includes(box.dataset.layer)) return;
  const range = [-limit, limit];
  window.Plotly.update(box, { x: [x], y: [y] }, { "xaxis.range": range, "yaxis.range": range, "xaxis.title.text": note }, [0]);
}

watch("value", () => take(props.value));
take(props.value);
const timer = setInterval(() => { if (element.isConnected) drawWaiting(); else clearInterval(timer); }, 200);
