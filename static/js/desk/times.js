/* Times that go on: "2 min ago", "only 12 min left". */
import { $$, say } from "./dom.js";

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

export const span = (seconds) => {
  for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.floor(seconds))} s`;
};

// The server's clock counts: a laptop that is minutes off must not call a gate expired.
let skew = 0;
export const now = () => Date.now() + skew;
export const setClock = (seconds) => { skew = seconds * 1000 - Date.now(); };

export const tick = () => {
  for (const time of $$("time[data-tick]")) {
    const at = Date.parse(time.dateTime);
    if (time.dataset.tick === "ago") {
      const age = (now() - at) / 1000;
      say(time, age < 10 ? "just now" : `${span(age)} ago`);
    } else {
      const since = Date.parse(time.dataset.since);
      const left = (at - now()) / 1000;
      const atRisk = left > 0 && now() - since > 0.8 * (at - since);
      time.classList.toggle("at-risk", atRisk);
      time.classList.toggle("expired", left <= 0);
      say(time, left <= 0 ? "expired" : `${atRisk ? "only " : ""}${span(left)} left`);
    }
  }
};

document.addEventListener("htmx:after:swap", tick);
setInterval(tick, 5000);
tick();
