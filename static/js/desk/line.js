/* Whether what is shown is still true: the sockets, their heartbeats, and the line in the foot that says how old the
   list is. A browser cannot see a ping, so the server says something every few seconds, and silence means that the
   line is dead although nobody closed it. */
import { $, announce, say } from "./dom.js";
import { setClock, span } from "./times.js";

const SILENT = 12000; // more than two heartbeats (sessions_app/consumers.py)
const SLOW = 8000; // a connection that is not made by then is tried again

const lines = new Map(); // by the element that connects: "sock" on every page, "session-sock" on some
let lastWord = Date.now(); // when the list was last known to be true
let signedOut = false;
let behind = false; // the line was lost, and what happened meanwhile has not been fetched yet

const LISTS = ["queue", "list", "gate", "session"];

const foot = () => {
  const live = $("#live");
  if (!live) return;
  const age = Math.max(0, (Date.now() - lastWord) / 1000);
  const line = lines.get("sock");
  if (signedOut) {
    live.dataset.state = "lost";
    say($("#live-words"), "you are signed out here; reload to sign in again");
  } else if (line?.open && !behind) {
    live.dataset.state = "live";
    say($("#live-words"), `live · list is ${Math.floor(age)} s old`);
  } else if (line?.open) {
    live.dataset.state = "lost";
    say($("#live-words"), `connected again, catching up: this list is ${span(age)} old`);
  } else if (line) {
    live.dataset.state = line.wasOpen || age > 5 ? "lost" : "still";
    const what = line.wasOpen ? "connection lost" : "connecting";
    say($("#live-words"), `${what}, this list is ${span(age)} old; trying again`);
  }
};

const caughtUp = () => {
  behind = false;
  lastWord = Date.now();
};

/** Close a socket as if it had said so itself; htmx then connects again. */
const giveUp = (line) => {
  const { socket, abortController } = line.connection;
  line.open = false;
  line.since = Date.now();
  socket.close();
  socket.dispatchEvent(new CloseEvent("close", { code: 4000 }));
  abortController.abort();
};

let asked = 0;
const watch = () => {
  for (const line of lines.values()) {
    const quiet = Date.now() - (line.open ? line.heard : line.since);
    const connecting = line.connection?.socket?.readyState === WebSocket.CONNECTING;
    if (line.open ? quiet > SILENT : connecting && quiet > SLOW) giveUp(line);
  }
  // The answer that would have caught up got lost, or was an error: ask again, until it comes.
  if (behind && lines.get("sock")?.open && Date.now() - asked > 5000) {
    asked = Date.now();
    const list = LISTS.find((id) => $(`#${id}`));
    if (!list) caughtUp();
    else if (list === "queue") document.body.dispatchEvent(new CustomEvent("desk:queue"));
    else if (list === "list") document.body.dispatchEvent(new CustomEvent("desk:sessions"));
    else document.body.dispatchEvent(new CustomEvent("desk:session"));
  }
  foot();
};

document.addEventListener("htmx:before:ws:connection", ({ target, detail }) => {
  const line = lines.get(target.id) ?? { open: false, wasOpen: false, heard: Date.now() };
  lines.set(target.id, { ...line, connection: detail.connection, since: Date.now() });
});
document.addEventListener("htmx:after:ws:connection", ({ target, detail }) => {
  lines.set(target.id, { connection: detail.connection, open: true, wasOpen: true, heard: Date.now(), since: Date.now() });
  if (target.id === "sock") {
    asked = Date.now();
    if (!behind) lastWord = Date.now();
    else if (!LISTS.some((id) => $(`#${id}`))) caughtUp();
  }
  foot();
});
document.addEventListener("htmx:ws:close", ({ target, detail }) => {
  const line = lines.get(target.id);
  if (line) line.open = false;
  const news = target.id === "sock" && line?.wasOpen && !behind;
  if (news) behind = true;
  if (detail.code === 4401 || detail.code === 4403) {
    signedOut = true;
    detail.connection.config.reconnect = false;
    announce("You are signed out here.");
  } else if (detail.code === 4404) {
    detail.connection.config.reconnect = false;
  } else if (news) {
    announce("Connection lost; trying again.");
  }
  foot();
});
document.addEventListener("htmx:before:ws:message", ({ target, detail }) => {
  const line = lines.get(target.id);
  if (line) line.heard = Date.now();
  const frame = detail.message.json;
  if (frame?.now) setClock(frame.now);
  if (target.id === "sock" && !behind) lastWord = Date.now();
  foot();
});
document.addEventListener("htmx:after:ws:message", ({ detail }) => {
  const news = [...(detail.message.json?.news ?? [])];
  // What is being fetched may be older than what was just pushed, and would take it away again: ask once more.
  if (news.includes("gates") && $("#queue.htmx-request")) news.push("queue");
  if (news.includes("session") && $("#session.htmx-request")) news.push("timeline");
  for (const name of new Set(news)) document.body.dispatchEvent(new CustomEvent(`desk:${name}`));
});
document.addEventListener("htmx:after:swap", ({ detail }) => {
  const { ctx } = detail;
  if (behind && ctx.response?.status < 400 && LISTS.includes(ctx.target?.id) && lines.get("sock")?.open) {
    caughtUp();
    announce("Connected again; what is shown is up to date.");
    foot();
  }
});

// A laptop that wakes up, or finds its network again, need not wait for the next second.
addEventListener("online", watch);
document.addEventListener("visibilitychange", watch);
setInterval(watch, 1000);

