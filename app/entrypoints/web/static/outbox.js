// New messages on top of the list as they come. The page is whole without this.
"use strict";

(() => {
  const list = document.getElementById("messages");
  if (!list || !("live" in list.dataset)) return;

  const EVERY = 1000; // milliseconds
  const MOST = 1000; // rows; the catcher keeps no more
  const pane = document.getElementById("list");
  const live = document.getElementById("live");
  const news = document.getElementById("news");
  const empty = document.getElementById("empty");
  const blank = document.getElementById("row").content.firstElementChild;
  let timer = 0;
  let asking = false;

  const rows = () => Array.from(list.children);

  function made(message) {
    const row = blank.cloneNode(true);
    row.dataset.id = message.id;
    row.querySelector("a").href = "/dev/outbox/" + encodeURIComponent(message.id);
    for (const field of row.querySelectorAll("[data-field]")) field.textContent = message[field.dataset.field];
    row.querySelector("time").dateTime = message.time;
    row.classList.add("new");
    return row;
  }

  // The pane scrolls on wide windows, the page on narrow ones. What is being read stays where it is.
  function keepingPlace(change) {
    const scroller = getComputedStyle(pane).overflowY === "auto" ? pane : document.scrollingElement;
    const mark = scroller.scrollTop > list.offsetTop ? list.firstElementChild : null;
    const before = mark ? mark.getBoundingClientRect().top : 0;
    change();
    if (mark) scroller.scrollTop += mark.getBoundingClientRect().top - before;
  }

  function add(messages) {
    const known = new Set(rows().map((row) => row.dataset.id));
    const fresh = messages.filter((message) => !known.has(message.id)).map(made);
    if (!fresh.length) return;
    keepingPlace(() => {
      empty.hidden = true;
      for (const row of fresh) {
        list.insertBefore(row, rows().find((other) => other.dataset.id < row.dataset.id) || null);
      }
      for (const row of rows().slice(MOST)) row.remove();
    });
    news.textContent = fresh.length === 1 ? "1 new message" : fresh.length + " new messages";
  }

  async function fetched() {
    const since = list.firstElementChild ? list.firstElementChild.dataset.id : "";
    const found = [];
    let after = "";
    do {
      const response = await fetch(list.dataset.url + "?" + new URLSearchParams({ since, after }), { cache: "no-store" });
      if (!response.ok) throw new Error(response.headers.get("Retry-After") || "");
      const page = await response.json();
      found.push(...page.items);
      after = page.nextCursor;
    } while (after && found.length < MOST);
    return found;
  }

  async function ask() {
    if (asking) return;
    asking = true;
    let wait = EVERY;
    try {
      add(await fetched());
      show("Live", false);
    } catch (error) {
      wait = Math.max(3 * EVERY, 1000 * (Number(error.message) || 0));
      show("Not reachable, trying again", true);
    }
    asking = false;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, wait);
  }

  function show(words, broken) {
    live.hidden = false;
    live.textContent = words;
    live.classList.toggle("broken", broken);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) ask();
  });

  // Reading a message is a page of its own: the list comes back as it was left.
  const kept = Number(sessionStorage.getItem("outbox"));
  if (kept) pane.scrollTop = kept;
  addEventListener("pagehide", () => sessionStorage.setItem("outbox", String(pane.scrollTop)));

  ask();
})();
