/* What a gate's card says of itself over the queue's socket: that it is open, and what its person does there. The page
   works without it: the card asks for news by itself, and nothing is decided by who is there. */
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const card = () => $("#presence");
  let socket = null;
  let lastSaid = "";

  // What one is doing is what one has begun to write.
  const doing = () => {
    if (document.hidden) return "away";
    const begun = [...document.querySelectorAll("textarea[data-doing]")].filter((area) => area.value.trim());
    return (begun.find((area) => area === document.activeElement) ?? begun[0])?.dataset.doing ?? "reading";
  };
  const tell = ({ again = false } = {}) => {
    const form = card();
    if (!form) return;
    $("#away").value = document.hidden ? "1" : "";
    const said = JSON.stringify({ presence: { gate: Number(form.dataset.gate), doing: doing() } });
    if ((said === lastSaid && !again) || socket?.readyState !== WebSocket.OPEN) return;
    lastSaid = said;
    socket.send(said);
  };
  // What is pushed is the same for everybody, so whoever it is about leaves it out here.
  const hideMe = () => {
    const me = card()?.dataset.me;
    for (const one of document.querySelectorAll("#presence [data-person]")) one.hidden = one.dataset.person === me;
  };

  document.addEventListener("htmx:after:ws:connection", ({ target, detail }) => {
    if (target.id !== "sock") return;
    socket = detail.connection.socket;
    tell({ again: true });
  });
  document.addEventListener("htmx:after:ws:message", ({ target, detail }) => {
    // The answer to a heartbeat: a hidden tab's own timers may sleep for a minute, but it still hears the server.
    if (target.id === "sock" && detail.message.json?.beat !== undefined) tell({ again: true });
    hideMe();
  });
  document.addEventListener("input", () => tell());
  document.addEventListener("focusin", () => tell());
  document.addEventListener("visibilitychange", () => tell());

  // A comment that was taken leaves its field; until then it stays there whatever is swapped.
  let taken = false;
  document.addEventListener("htmx:before:response", ({ detail: { ctx } }) => {
    if (ctx.sourceElement.id === "comment") taken = ctx.response.status < 400;
  });
  document.addEventListener("htmx:after:swap", () => {
    if (taken && $("#comment-text")) $("#comment-text").value = "";
    taken = false;
    hideMe();
    tell();
  });
  hideMe();
})();
