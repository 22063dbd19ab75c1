// Ties the player of the tab "Embed" to its plots. Runs once, after player.js, when its gr.HTML is put on the page.
// A click in a plot plays that moment; while the player moves, a cursor moves over the plots. Gradio makes a new plot element
// for each redraw, so plots are looked for again and again and hooked when they are new.
const state = { run: null, range: null };

function plots() {
  return ["timeline", "path"].map((name) => ({ name, graph: drawn(`#embed-${name}`) })).filter(({ graph }) => graph);
}

function load(value) {
  if (!value || !value.url) {
    silence();
    if (value && value.run !== state.run) Object.assign(state, { run: value.run, range: null });
    return;
  }
  if (take(value.url)) Object.assign(state, { run: value.run, range: null });
}

function playFrom(seconds) {
  if (!player.source) return;
  const length = Number(howLong.value);
  play(seconds, length > 0 ? seconds + length : Infinity);
}

function hook({ name, graph }) {
  graph.dataset.strata = state.run || "";
  graph.setAttribute("role", "group");
  graph.setAttribute("aria-label", name === "timeline" ? "Waveform, spectrogram and layer over time" : "Path of the frames");
  graph.on("plotly_click", (event) => {
    const point = event.points[0], data = point.customdata;
    playFrom(data && data.length ? data[0] : point.x);
  });
  const cursor = document.createElement("div");
  cursor.className = `strata-cursor strata-cursor-${name}`;
  cursor.hidden = true;
  graph.style.position = "relative";
  graph.appendChild(cursor);
  // On a phone the colour bars would take a third of the width.
  if (graph.clientWidth < 520) window.Plotly.restyle(graph, { showscale: false, "marker.showscale": false });
  if (name !== "timeline") return;
  if (state.range) window.Plotly.relayout(graph, { "xaxis.range": state.range });
  graph.on("plotly_relayout", () => {
    state.range = graph._fullLayout.xaxis.range.slice();
    fadeOutside();
  });
}

// Zooming into a stretch of time fades all other frames of the path.
function fadeOutside() {
  for (const { name, graph } of plots()) {
    if (name !== "path" || graph._fullLayout.scene) continue;
    const [from, to] = state.range || [-Infinity, Infinity];
    const times = timesOf(graph);
    const inside = [];
    times.forEach((t, i) => { if (t >= from && t <= to) inside.push(i); });
    const selected = inside.length === times.length ? null : inside;
    window.Plotly.restyle(graph, { selectedpoints: [selected] });
  }
}

function timesOf(graph) {
  return Array.from(graph._fullData[0].customdata, (row) => row[0]);
}

function nearest(times, t) {
  let low = 0, high = times.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= t) low = middle; else high = middle;
  }
  return t - times[low] <= times[high] - t ? low : high;
}

function placeOnTimeline(graph, cursor, t) {
  const axis = graph._fullLayout.xaxis, size = graph._fullLayout._size;
  const x = axis.l2p(t);
  cursor.hidden = x < 0 || x > axis._length;
  cursor.style.left = `${axis._offset + x}px`;
  cursor.style.top = `${size.t}px`;
  cursor.style.height = `${size.h}px`;
}

function placeOnPath(graph, cursor, t) {
  const layout = graph._fullLayout, data = graph._fullData[0];
  if (layout.scene) { cursor.hidden = true; return; }
  if (!graph.strataTimes) graph.strataTimes = timesOf(graph);
  const i = nearest(graph.strataTimes, t);
  const x = layout.xaxis.l2p(data.x[i]), y = layout.yaxis.l2p(data.y[i]);
  cursor.hidden = x < 0 || y < 0 || x > layout.xaxis._length || y > layout.yaxis._length;
  cursor.style.left = `${layout.xaxis._offset + x}px`;
  cursor.style.top = `${layout.yaxis._offset + y}px`;
}

player.onMove = (t) => {
  for (const { name, graph } of plots()) {
    const cursor = graph.querySelector(".strata-cursor");
    if (cursor) (name === "timeline" ? placeOnTimeline : placeOnPath)(graph, cursor, t);
  }
};

watch("value", () => load(props.value));
load(props.value);
setInterval(() => plots().filter(({ graph }) => graph.dataset.strata === undefined).forEach(hook), 200);
