// The strip of the last clicks: asks for later ones every two seconds, and shows at most five a second.

const ASK = 2000;
const SHOW = 200;
const SLOWEST = 10000;
const ROWS = 10;

const strip = document.querySelector("[data-live]");
const body = strip.querySelector("[data-clicks]");
const pause = strip.querySelector("[data-pause]");
const aloud = strip.querySelector("[data-aloud]");
const said = strip.querySelector("[data-said]");

let after = Number(strip.dataset.after) || 0;
let waiting = [];
let between = ASK;
let timer;

const isOn = (button) => button.getAttribute("aria-pressed") === "true";
const toggle = (button) => button.setAttribute("aria-pressed", String(!isOn(button)));

function row(click) {
  const line = document.createElement("tr");
  line.className = "new-click";
  for (const [place, text] of click.cells.entries()) {
    const cell = document.createElement("td");
    if (place === 0) {
      const link = document.createElement("a");
      link.href = click.href;
      link.textContent = text;
      cell.className = "time";
      cell.append(link);
    } else {
      cell.textContent = text;
    }
    line.append(cell);
  }
  return line;
}

function show() {
  if (isOn(pause) || !waiting.length) return;
  const click = waiting.shift();
  body.prepend(row(click));
  while (body.rows.length > ROWS) body.lastElementChild.remove();
  strip.querySelector(".empty")?.remove();
  if (isOn(aloud)) said.textContent = click.cells.join(", ");
}

async function ask() {
  clearTimeout(timer);
  if (document.hidden || isOn(pause)) return;
  const address = new URL(strip.dataset.live, location.href);
  if (after) address.searchParams.set("after_id", after);
  try {
    const answer = await fetch(address, { redirect: "manual", credentials: "same-origin" });
    if (answer.type === "opaqueredirect" || answer.status === 403) return; // the session is over
    if (answer.ok) {
      const found = await answer.json();
      const later = found.clicks.filter((click) => click.id > after).reverse();
      if (found.skipped) waiting = [];
      waiting.push(...later);
      after = Math.max(after, ...later.map((click) => click.id));
      between = later.length ? ASK : Math.min(between * 1.25, SLOWEST);
    } else {
      between = SLOWEST;
    }
  } catch {
    between = SLOWEST;
  }
  timer = setTimeout(ask, between);
}

strip.querySelector("[data-reload]").hidden = true;
pause.hidden = aloud.hidden = false;
pause.addEventListener("click", () => {
  toggle(pause);
  pause.textContent = isOn(pause) ? "Go on" : "Pause";
  between = ASK;
  ask();
});
aloud.addEventListener("click", () => {
  toggle(aloud);
  said.setAttribute("aria-live", isOn(aloud) ? "polite" : "off");
});
document.addEventListener("visibilitychange", () => { between = ASK; ask(); });
setInterval(show, SHOW);
timer = setTimeout(ask, ASK);
