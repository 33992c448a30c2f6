/* The strip in the foot: each heartbeat brings it as the server rendered it, and between two of them its age goes on.
   Whether the sweep is late is the server's word: a page that hears nothing must not blame the sweep. */
"use strict";

(() => {
  const strip = () => document.getElementById("standing");
  let skew = 0;

  const tick = () => {
    const time = strip()?.querySelector("time[data-age]");
    if (!time) return;
    const age = Math.max(0, Math.round((Date.now() + skew - Date.parse(time.dateTime)) / 1000));
    const text = age < 120 ? `${age} s` : `${Math.floor(age / 60)} min`;
    if (time.textContent !== text) time.textContent = text;
  };

  document.addEventListener("htmx:before:ws:message", ({ detail }) => {
    const frame = detail.message.json;
    if (frame?.now) skew = frame.now * 1000 - Date.now();
    if (frame?.standing && strip() && !strip().contains(document.activeElement)) {
      const template = document.createElement("template");
      template.innerHTML = frame.standing;
      strip().replaceWith(template.content);
    }
    tick();
  });

  setInterval(tick, 1000);
  tick();
})();
