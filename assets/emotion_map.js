// Ties the player of "Map" to the points, after player.js: a click on a point asks the server for its clip and its neighbours,
// plays it, and makes all other points pale. Each neighbour is a button that does the same.
const MAP = "#map-map";
const heard = element.querySelector(".strata-heard");
const near = element.querySelector(".strata-near");
const state = { run: null, shown: [] };

function load(value) {
  if (!value || !value.run) { silence(); return; }
  element.classList.remove("strata-silent");
  if (value.run !== state.run) Object.assign(state, { run: value.run, shown: [] });
  if (value.url) hear(value); else ask();
}

function ask() {
  audio.removeAttribute("src");
  player.source = null;
  heard.textContent = "Click a point to hear its clip.";
  near.hidden = true;
  highlight();
}

function hear({ url, clip, name, label, speaker, neighbours }) {
  take(url);
  play(0, Infinity);
  element.dataset.clip = clip;
  heard.textContent = `${name}: ${label}, ${speaker}`;
  near.hidden = !neighbours.length;
  near.querySelector("ol").replaceChildren(...neighbours.map((one) => buttonOf(one, label, speaker)));
  state.shown = [clip, ...neighbours.map((one) => one.clip)];
  highlight();
}

function buttonOf({ clip, cosine, name, label, speaker }, ownLabel, ownSpeaker) {
  const item = document.createElement("li"), button = document.createElement("button"), told = document.createElement("span");
  button.type = "button";
  button.textContent = name;
  button.setAttribute("aria-label", `Play ${name}, ${label}, ${speaker}`);
  button.addEventListener("click", () => trigger("chosen", { clip }));
  const same = [label === ownLabel ? "same emotion" : label, speaker === ownSpeaker ? "same speaker" : speaker];
  told.textContent = `${same.join(", ")}, cosine ${cosine.toFixed(2)}`;
  item.append(button, told);
  return item;
}

function highlight() {
  const graph = drawn(MAP);
  if (!graph) return;
  window.Plotly.restyle(graph, { selectedpoints: [state.shown.length ? state.shown : null] }, [0]);
}

function hook(graph) {
  graph.dataset.strata = state.run || "";
  graph.setAttribute("role", "group");
  graph.setAttribute("aria-label", "Clips as points");
  graph.on("plotly_click", ({ points }) => {
    const clip = points[0].customdata;
    if (clip !== undefined) trigger("chosen", { clip: Number(clip) });
  });
  graph.on("plotly_doubleclick", () => { state.shown = []; highlight(); });
  highlight();
}

watch("value", () => load(props.value));
load(props.value);
setInterval(() => {
  const graph = drawn(MAP);
  if (graph && graph.dataset.strata === undefined) hook(graph);
}, 200);
