/* What the pages do beyond htmx: times that go on, an honest footer, the count in the title, focus and typed text
   that are never lost, and a few keys. Every page works without it. */
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const say = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };

  // Times ------------------------------------------------------------------------------------------------------
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const span = (seconds) => {
    for (const [size, unit] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
    return `${Math.max(0, Math.floor(seconds))} s`;
  };
  // The server's clock counts: a laptop that is minutes off must not call a gate expired.
  let skew = 0;
  const now = () => Date.now() + skew;

  const tick = () => {
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

  // The line ---------------------------------------------------------------------------------------------------
  const SILENT = 25000; // two and a half heartbeats
  const sockets = new Map();
  let lastWord = now();
  let signedOut = false;

  const footer = () => {
    const live = $("#live");
    if (!live) return;
    const age = Math.max(0, Math.floor((now() - lastWord) / 1000));
    const line = sockets.get("sock");
    if (signedOut) {
      live.dataset.state = "lost";
      say($("#live-words"), "you are signed out here; reload to sign in again");
    } else if (line?.open) {
      live.dataset.state = "live";
      say($("#live-words"), `live · list is ${age} s old`);
    } else if (line) {
      live.dataset.state = line.wasOpen || age > 5 ? "lost" : "still";
      say($("#live-words"), `${line.wasOpen ? "connection lost" : "connecting"} · list is ${span(age)} old · trying again`);
    }
  };

  const watch = () => {
    for (const line of sockets.values()) {
      if (!line.open || Date.now() - line.heard < SILENT) continue;
      // Half-open: nothing arrives and nothing says so. Close it as if it had said so; htmx then connects again.
      const { socket, abortController } = line.connection;
      line.open = false;
      socket.close();
      socket.dispatchEvent(new CloseEvent("close", { code: 4000 }));
      abortController.abort();
    }
    footer();
  };

  document.addEventListener("htmx:after:ws:connection", ({ target, detail }) => {
    sockets.set(target.id, { connection: detail.connection, open: true, wasOpen: true, heard: Date.now() });
    if (target.id === "sock") lastWord = now();
    footer();
  });
  document.addEventListener("htmx:before:ws:connection", ({ target }) => {
    if (!sockets.has(target.id)) sockets.set(target.id, { open: false, wasOpen: false, heard: Date.now() });
  });
  document.addEventListener("htmx:ws:close", ({ target, detail }) => {
    const line = sockets.get(target.id);
    if (line) line.open = false;
    if (detail.code === 4401 || detail.code === 4403) {
      signedOut = true;
      detail.connection.config.reconnect = false;
      say($("#said"), "You are signed out here.");
    } else if (detail.code === 4404) {
      detail.connection.config.reconnect = false;
    } else if (line?.wasOpen && target.id === "sock") {
      say($("#said"), "Connection lost; trying again.");
    }
    footer();
  });
  document.addEventListener("htmx:before:ws:message", ({ target, detail }) => {
    const line = sockets.get(target.id);
    if (line) line.heard = Date.now();
    if (target.id === "sock") lastWord = now();
    const frame = detail.message.json;
    if (frame?.now) skew = frame.now * 1000 - Date.now();
    footer();
  });
  document.addEventListener("htmx:after:ws:message", ({ detail }) => {
    const news = detail.message.json?.news ?? [];
    // What is being fetched may be older than what was just pushed, and would take it away again: ask once more.
    if (news.includes("gates") && $("#queue.htmx-request")) news.push("queue");
    if (news.includes("session") && $("#session.htmx-request")) news.push("timeline");
    for (const name of new Set(news)) document.body.dispatchEvent(new CustomEvent(`desk:${name}`));
  });

  // The title --------------------------------------------------------------------------------------------------
  const count = () => {
    const badge = $("#badge");
    if (!badge) return;
    const plain = document.title.replace(/^\(\d+\) /, "");
    const waiting = Number(badge.dataset.count);
    const title = waiting ? `(${waiting}) ${plain}` : plain;
    if (document.title !== title) document.title = title;
  };

  // Focus and typed text ---------------------------------------------------------------------------------------
  let focused = null; // the row that has the focus, and where it stood
  document.addEventListener("focusin", ({ target }) => {
    const row = target.closest?.("#rows > .row");
    focused = row ? { id: target.id, index: $$("#rows > .row").indexOf(row) } : null;
  });
  const keepFocus = () => {
    if (!focused || document.activeElement !== document.body) return;
    const links = $$("#rows > .row .cell-main");
    const next = document.getElementById(focused.id) ?? links[Math.min(focused.index, links.length - 1)] ?? $("#main");
    next.focus({ preventScroll: true });
  };

  let typed = "";
  document.addEventListener("input", ({ target }) => { if (target.id === "words") typed = target.value; });
  document.addEventListener("htmx:before:response", ({ target, detail }) => {
    if (target.id === "decision" && detail.ctx.response.status < 400) typed = "";
  });
  const keepTyped = () => {
    if (!typed.trim() || $("#words") || !$("#kept")?.hidden) return;
    say($("#kept-text"), typed);
    $("#kept").hidden = false;
  };

  // What failed ------------------------------------------------------------------------------------------------
  const alertWith = (text) => {
    const note = document.createElement("p");
    note.className = "notice bad";
    note.textContent = text;
    $("#alerts")?.replaceChildren(note);
  };
  document.addEventListener("htmx:error", ({ target, detail }) => {
    if (target.closest?.("form[method=post]") && detail.ctx) {
      alertWith("CLM did not answer, so it is not known whether this arrived. The page shows it when the connection is back; reload to be sure.");
    }
  });
  document.addEventListener("htmx:response:error", ({ target, detail }) => {
    if (detail.ctx.response.status >= 500 && target.closest?.("form[method=post]")) {
      alertWith("Something broke in CLM and this was not done. It is in the server's log; try again.");
    }
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const { response, text } = event.detail.ctx;
    if (response?.status !== 403 || text.includes('id="gate"')) return;
    event.preventDefault();
    alertWith("This was refused: the page is too old, or your role has changed. Reload it, then try again.");
  });
  document.addEventListener("htmx:before:request", () => $("#alerts")?.replaceChildren());

  document.addEventListener("htmx:after:swap", () => {
    count();
    tick();
    keepFocus();
    keepTyped();
    $("#words[aria-invalid=true]")?.focus();
  });

  // On a small screen a button leads down to the form, until the form is in sight.
  const jump = () => {
    const form = $("#decide");
    if (form && $(".jump")) $(".jump").hidden = form.getBoundingClientRect().top < innerHeight - 80;
  };
  addEventListener("scroll", jump, { passive: true });
  addEventListener("resize", jump, { passive: true });
  document.addEventListener("htmx:after:swap", jump);
  jump();

  // Keys -------------------------------------------------------------------------------------------------------
  // They only move the focus: nothing is ever decided by one key.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const menu = event.target.closest?.("details.menu[open]") ?? $("details.menu[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      $("summary", menu).focus();
      return;
    }
    if (event.target.closest?.("input, select, textarea")) return;
    const links = $$("#rows > .row .cell-main");
    if ((event.key === "j" || event.key === "k") && links.length) {
      const at = links.indexOf(document.activeElement);
      const to = event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0);
      links[to].focus();
    } else if (event.key === "/" && $("#f-q")) {
      event.preventDefault();
      $("#f-q").focus();
    } else if (event.key === "a" || event.key === "r") {
      const button = $(`button[data-key="${event.key}"]`);
      if (button) (event.key === "r" ? $("#words") ?? button : button).focus();
      if (button) event.preventDefault();
    }
  });
  document.addEventListener("click", ({ target }) => {
    for (const menu of $$("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
  });

  // htmx starts a tick after its own script, which may be before a slow network has brought its extensions; without
  // them it passes over the socket. By now everything is here, and processing twice does nothing twice.
  document.addEventListener("DOMContentLoaded", () => window.htmx?.process(document.body));

  setInterval(watch, 1000);
  setInterval(tick, 5000);
  tick();
})();
