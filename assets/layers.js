// Ties the tab "Layers" together, after player.js: one slider moves all maps, one list colours them, a click plays a point, a
// lasso chooses rows. All layers and colours are in the figures (their hidden sliders and lists), so that no step asks the server.
const range = element.querySelector(".strata-layer");
const colour = element.querySelector(".strata-colour");
const lasso = element.querySelector(".strata-lasso");
const heard = element.querySelector(".strata-heard");
const state = { run: null, urls: [], layers: [], layer: null, colour: null };

function maps() {
  return ["#layers-pca", "#layers-map"].map(drawn).filter((graph) => graph);
}

function load(value) {
  if (!value || !value.run) { silence(); return; }
  if (value.run === state.run) return;
  Object.assign(state, { run: value.run, urls: value.urls });
  // MEG has no sound: a click only says what a point is.
  element.querySelector(".strata-player").classList.toggle("strata-silent", !value.urls.length);
  heard.textContent = value.urls.length ? "Click a point to hear it." : "Click a point to read what it is.";
  howLong.value = value.span === "frame" ? "0.5" : "row";
  take(value.urls[0] ?? "");
}

// Each point carries: its row, the number of its recording, and the seconds at which it begins and ends.
function hear(point) {
  if (!point.customdata) return;
  const [, recording, start, stop] = point.customdata, length = Number(howLong.value);
  if (state.urls.length) {
    take(state.urls[recording]);
    const middle = (start + stop) / 2;
    if (howLong.value === "row") play(start, stop);
    else if (length > 0) play(Math.max(0, middle - length / 2), middle + length / 2);
    else play(start, Infinity);
  }
  element.dataset.recording = recording;
  const told = String(point.hovertext ?? "").replaceAll("<br>", ", ").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  heard.textContent = `${told}: ${start.toFixed(3)} to ${stop.toFixed(3)} s`;
}

function choose(rows) {
  for (const graph of maps()) {
    if (!graph._fullLayout.scene) window.Plotly.restyle(graph, { selectedpoints: [rows.length ? rows : null] }, [0]);
  }
  trigger("chosen", { rows });
}

const steps = (graph) => graph.layout.sliders?.[0]?.steps ?? [];
const colours = (graph) => graph.layout.updatemenus?.[0]?.buttons ?? [];

function hook(graph) {
  graph.dataset.strata = state.run || "";
  graph.setAttribute("role", "group");
  graph.setAttribute("aria-label", graph.closest("#layers-pca") ? "Rows on principal axes" : "t-SNE map");
  graph.on("plotly_click", (event) => hear(event.points[0]));
  graph.on("plotly_selected", (event) => choose(event ? event.points.map((point) => point.customdata[0]) : []));
  graph.on("plotly_deselect", () => choose([]));
  if (graph.closest("#layers-pca")) offer(graph);
  showLayer(graph);
  showColour(graph);
  showMode(graph);
  // On a phone the axes' texts would be cut off.
  if (graph.clientWidth < 520 && !graph._fullLayout.scene) {
    window.Plotly.relayout(graph, { "xaxis.title.font.size": 10, "yaxis.title.font.size": 10 });
  }
}

// What the slider and the list offer is what the figure of principal axes holds.
function offer(graph) {
  const slider = graph.layout.sliders[0];
  state.layers = slider.steps.map((step) => step.label);
  if (!state.layers.includes(state.layer)) state.layer = state.layers[slider.active];
  range.max = state.layers.length - 1;
  range.value = state.layers.indexOf(state.layer);
  const labels = colours(graph).map((button) => button.label);
  if (!labels.includes(state.colour)) state.colour = labels[0];
  colour.replaceChildren(...labels.map((label) => new Option(label.replace("colour: ", ""), label)));
  colour.value = state.colour;
  tellLayer();
}

function tellLayer() {
  element.querySelector("output").textContent = `${state.layer} of ${state.layers.at(-1)}`;
  range.setAttribute("aria-valuetext", `layer ${state.layer}`);
  window.strataLayer = Number(state.layer);
}

function showLayer(graph) {
  const step = steps(graph).find(({ label }) => label === state.layer);
  graph.parentElement.classList.toggle("strata-elsewhere", !step);
  if (!step) {
    graph.parentElement.dataset.elsewhere = `No map of layer ${state.layer} yet: this is layer ${graph.dataset.layer ?? ""}`;
    return;
  }
  if (graph.dataset.layer === step.label) return;
  graph.dataset.layer = step.label;
  const [data, layout, traces] = step.args;
  window.Plotly.update(graph, { ...data }, { ...layout }, traces);
}

function showColour(graph) {
  const button = colours(graph).find(({ label }) => label === state.colour);
  if (!button || graph.dataset.colour === button.label) return;
  graph.dataset.colour = button.label;
  window.Plotly.restyle(graph, { ...button.args[0] });
}

function showMode(graph) {
  if (graph._fullLayout.scene) return;
  const mode = lasso.getAttribute("aria-pressed") === "true" ? "lasso" : "pan";
  if (graph._fullLayout.dragmode !== mode) window.Plotly.relayout(graph, { dragmode: mode });
}

range.addEventListener("input", () => {
  state.layer = state.layers[Number(range.value)];
  tellLayer();
  maps().forEach(showLayer);
});
colour.addEventListener("change", () => { state.colour = colour.value; maps().forEach(showColour); });
lasso.addEventListener("click", () => {
  lasso.setAttribute("aria-pressed", lasso.getAttribute("aria-pressed") !== "true");
  maps().forEach(showMode);
});
watch("value", () => load(props.value));
load(props.value);
setInterval(() => {
  maps().filter((graph) => graph.dataset.strata === undefined).forEach(hook);
  // A new value puts the widgets back to what the template says.
  const graph = drawn("#layers-pca");
  if (graph && colour.options.length !== colours(graph).length) offer(graph);
}, 200);
