// What the players of all tabs do. Stands before the script of a tab; `element`, `props` and `watch` are Gradio's.
const audio = element.querySelector("audio");
const clock = element.querySelector(".strata-clock");
const howLong = element.querySelector(".strata-how-long");
const player = { source: null, stopAt: Infinity, onMove: () => {} };

// A plot that is still being drawn, or lies on a hidden page, is looked at again later.
function drawn(selector) {
  const graph = document.querySelector(`${selector} .js-plotly-plot`);
  return graph && graph.on && graph.calcdata && graph._fullData && graph.clientWidth ? graph : null;
}

function silence() {
  audio.pause();
  audio.removeAttribute("src");
  player.source = null;
  element.classList.add("strata-silent");
}

// Returns whether the sound is another one than before.
function take(url) {
  element.classList.remove("strata-silent");
  if (url === player.source) return false;
  player.source = url;
  player.stopAt = Infinity;
  audio.src = url;
  return true;
}

function play(from, to) {
  element.dataset.clicked = from.toFixed(4);
  const begin = () => {
    audio.currentTime = Math.max(0, from);
    player.stopAt = to;
    audio.play().catch(() => {});
    move();
  };
  if (audio.readyState > 0) begin(); else audio.addEventListener("loadedmetadata", begin, { once: true });
}

function move() {
  clock.textContent = `${audio.currentTime.toFixed(3)} s`;
  if (audio.currentTime >= player.stopAt) { audio.pause(); player.stopAt = Infinity; }
  player.onMove(audio.currentTime);
}

function follow() {
  move();
  if (!audio.paused && element.isConnected) requestAnimationFrame(follow);
}

audio.addEventListener("play", follow);
audio.addEventListener("seeked", move);
// Where drawing is slow, frames come seldom; this comes four times a second.
audio.addEventListener("timeupdate", move);
audio.addEventListener("pause", move);
// The player's own controls play on; only a click in a plot plays a moment.
audio.addEventListener("seeking", () => { if (audio.currentTime > player.stopAt) player.stopAt = Infinity; });
