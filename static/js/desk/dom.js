/* Finding elements, and saying things. */

export const $ = (selector, from = document) => from.querySelector(selector);
export const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

/** Set an element's text, and leave it alone where it says so already. */
export const say = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };

/** Say something to whoever listens instead of looking. The same words twice are said twice. */
export const announce = (text) => {
  const said = $("#said");
  if (!said) return;
  said.textContent = "";
  setTimeout(() => { said.textContent = text; }, 60);
};

/** What the person has switched on: a word list on <html>, written by the server. */
export const prefers = (name) => document.documentElement.dataset.prefers?.split(" ").includes(name) ?? false;

/** What this tab remembers; a browser may refuse to keep anything. */
export const remember = (name, value) => {
  try {
    if (value === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, JSON.stringify(value));
  } catch { /* then it is not remembered */ }
};
export const recall = (name) => {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
};
