// Ties the player of "Classify" to the timeline, after player.js: a click anywhere in it plays from that moment, and a cursor
// moves over it while the player does.
const TIMELINE = "#classify-timeline";
const state = { run: null };

function load(value) {
  if (!value || !value.url) { silence(); return; }
  if (take(value.url)) state.run = value.run;
}

function playFrom(seconds, window) {
  const length = howLong.value;
  if (length === "window" && window) play(window[0], window[1]);
  else play(seconds, Number(length) > 0 ? seconds + Number(length) : Infinity);
}

// Seconds below the pointer, wherever between two marks it is.
function secondsAt(graph, event) {
  const axis = graph._fullLayout.xaxis;
  return axis.p2d(event.clientX - graph.getBoundingClientRect().left - axis._offset);
}

function hook(graph) {
  graph.dataset.strata = state.run || "";
  graph.setAttribute("role", "group");
  graph.setAttribute("aria-label", "What is said over time");
  graph.on("plotly_click", ({ points, event }) => {
    const marked = points.find(({ customdata }) => customdata);
    playFrom(secondsAt(graph, event), marked && Array.from(marked.customdata));
  });
  const cursor = document.createElement("div");
  cursor.className = "strata-cursor strata-cursor-timeline";
  cursor.hidden = true;
  graph.style.position = "relative";
  graph.appendChild(cursor);
  // On a phone the legend's names would take half of the figure.
  if (graph.clientWidth < 520) window.Plotly.relayout(graph, { "legend.font.size": 10 });
  player.onMove(audio.currentTime);
}

player.onMove = (t) => {
  const graph = drawn(TIMELINE), cursor = graph?.querySelector(".strata-cursor");
  if (!cursor) return;
  const axis = graph._fullLayout.xaxis, size = graph._fullLayout._size, x = axis.l2p(t);
  cursor.hidden = x < 0 || x > axis._length;
  cursor.style.left = `${axis._offset + x}px`;
  cursor.style.top = `${size.t}px`;
  cursor.style.height = `${size.h}px`;
};

watch("value", () => load(props.value));
load(props.value);
setInterval(() => {
  const graph = drawn(TIMELINE);
  if (graph && graph.dataset.strata === undefined) hook(graph);
}, 200);
