/* The session page beyond htmx: a link to an event finds it, a click on its time copies the link, and whoever reads
   at the end of a running session stays there. The page works without it. */
"use strict";

(() => {
  const say = (text) => { const said = document.getElementById("said"); if (said) said.textContent = text; };

  const find = () => {
    if (!/^#e-\d+$/.test(location.hash)) return;
    const event = document.getElementById(location.hash.slice(1));
    if (event) {
      for (let fold = event.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      event.scrollIntoView({ block: "center" });
    } else if (!new URLSearchParams(location.search).has("at")) {
      // It stands on an earlier page, which the server finds.
      location.replace(`${location.pathname}?at=${location.hash.slice(3)}${location.hash}`);
    }
  };
  addEventListener("hashchange", find);
  find();

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("#timeline a.at");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.replaceState(history.state, "", new URL(link.href).hash);
    // A new address alone does not make an element the target; going there does.
    location.hash = new URL(link.href).hash;
    navigator.clipboard?.writeText(link.href).then(() => say("The link to this event is copied."), () => {});
  });

  // Updates and earlier events are fetched one after the other. An update that waited for its turn asks for everything
  // since the event that is the first on the page by then.
  document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
    if (ctx.sourceElement.id !== "session") return;
    const url = new URL(ctx.request.action, location.href);
    const since = document.getElementById("since")?.value;
    if (since) url.searchParams.set("since", since);
    ctx.request.action = url.pathname + url.search;
  });
  // An update may have been left out while earlier events were waited for.
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement?.id === "earlier-link") document.body.dispatchEvent(new CustomEvent("desk:timeline"));
  });

  const atTheEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
  let follow = false;
  document.addEventListener("htmx:before:ws:message", ({ target }) => {
    if (target.id === "session-sock") follow = scrollY > 0 && atTheEnd();
  });
  document.addEventListener("htmx:after:ws:message", ({ target }) => {
    if (target.id === "session-sock" && follow) scrollTo({ top: document.documentElement.scrollHeight });
  });
})();
