// Keeps the page as the server last rendered it, sends forms without leaving the page, follows logs.
// Everything the server sends is HTML that it has escaped; texts of events are set as text.
"use strict";
(() => {
  const live = document.getElementById("live");
  const stateLine = document.getElementById("state");
  const notes = document.getElementById("notes");
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("persona", { createHTML: (html) => html })
    : { createHTML: (html) => html };
  const MOST_LINES = 5000;
  const MOST_ACTIVITY = 30;
  const HIDDEN_FOR = 20000;

  const parse = (html) => new DOMParser().parseFromString(policy.createHTML(html), "text/html").body;

  // -- times ---------------------------------------------------------------------------------------

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
  const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
  const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
  const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} m ${String(s % 60).padStart(2, "0")} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} m`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const rough = (seconds) => {
    if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86400)} d`;
  };
  const written = (at, form, now) => {
    const ago = (now - at) / 1000;
    if (form === "since") return span(ago);
    if (form === "clock") return now - at > 86400000 ? short.format(at) : clock.format(at);
    if (form === "told") return at.toDateString() === now.toDateString() ? clock.format(at) : short.format(at);
    if (form === "axis") return Math.abs(ago) > 93600 ? day.format(at) : hour.format(at);
    if (ago < 0) return form === "soon" ? `in ${rough(-ago)}` : short.format(at);
    return ago > 2 * 86400 ? short.format(at) : `${rough(ago)} ago`;
  };
  const showTime = (element, now) => {
    const at = new Date(element.dateTime);
    const text = written(at, element.dataset.form, now);
    if (element.textContent !== text) element.textContent = text;
    if (!element.title) element.title = whole.format(at);
  };
  const showTimes = (root, ticking) => {
    const now = new Date();
    for (const element of root.querySelectorAll("time")) {
      if (!ticking || !["clock", "axis", "told"].includes(element.dataset.form)) showTime(element, now);
    }
  };

  // -- morphing: the new page into the old one, without losing focus, selection, or what is typed -----

  const keyOf = (node) => (node.nodeType === 1 && (node.id || (node.name && node.type === "hidden" ? "" : node.dataset?.keepOpen))) || null;
  const copyAttributes = (from, to) => {
    for (const { name, value } of from.attributes) {
      if (name === "open" && to.matches("details")) continue;
      if (name === "hidden" && to.dataset.needsScript !== undefined) continue;
      if (name === "value" && (to.name === "csrf" || to.dataset.keepValue !== undefined || to === document.activeElement)) continue;
      if (to.getAttribute(name) !== value) to.setAttribute(name, value);
    }
    for (const { name } of [...to.attributes]) {
      if (!from.hasAttribute(name) && !(name === "open" && to.matches("details")) && !["title", "disabled", "aria-busy"].includes(name)) to.removeAttribute(name);
    }
  };
  const morph = (from, to) => {
    const keyed = new Map();
    for (const child of to.childNodes) {
      const key = keyOf(child);
      if (key) keyed.set(key, child);
    }
    let place = to.firstChild;
    for (const wanted of [...from.childNodes]) {
      const key = keyOf(wanted);
      // Space that only one of the two has: elements stay where they are, with their focus.
      while (wanted.nodeType === 1 && place?.nodeType === 3 && !place.nodeValue.trim()) {
        const next = place.nextSibling;
        place.remove();
        place = next;
      }
      let found = key ? keyed.get(key) : place;
      if (!key) {
        while (found && keyOf(found) && keyed.has(keyOf(found))) found = found.nextSibling;
      }
      const fits = found && found.nodeType === wanted.nodeType && found.nodeName === wanted.nodeName && (keyOf(found) || null) === key;
      if (!fits) {
        to.insertBefore(document.importNode(wanted, true), place);
        continue;
      }
      if (found !== place) to.insertBefore(found, place);
      else place = place.nextSibling;
      if (found.nodeType === 1) {
        if (found.dataset.keep !== undefined) continue;
        if (found.nodeName === "TIME" && found.dateTime === wanted.dateTime) continue;
        if (found.nodeName === "TEXTAREA") continue;
        copyAttributes(wanted, found);
        morph(wanted, found);
      } else if (found.nodeValue !== wanted.nodeValue) {
        found.nodeValue = wanted.nodeValue;
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  };
  const show = (html) => {
    const focused = document.activeElement;
    morph(parse(html), live);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    dress();
  };

  // What only a page with a script has.
  const dress = () => {
    for (const element of document.querySelectorAll("[data-needs-script][hidden]")) element.hidden = false;
    showTimes(live, false);
  };

  // -- telling ---------------------------------------------------------------------------------------

  const tell = (words, kind, hint) => {
    const note = document.createElement("div");
    note.className = `note ${kind}`;
    note.textContent = hint ? `${words}. ${hint}` : words;
    notes.append(note);
    while (notes.children.length > 4) notes.firstChild.remove();
    setTimeout(() => note.remove(), kind === "bad" ? 15000 : 6000);
  };

  // -- actions ---------------------------------------------------------------------------------------

  const answerIn = (form, words, kind, hint) => {
    let line = form.querySelector("output");
    if (!line) {
      line = document.createElement("output");
      form.append(line);
    }
    line.className = kind;
    line.textContent = hint ? `${words}. ${hint}` : words;
  };
  const send = async (form, submitter) => {
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        headers: { accept: "application/json", "x-csrf-token": csrf },
        body: new URLSearchParams(new FormData(form, submitter)),
        redirect: "error",
      });
      const told = await answer.json();
      if (!told.ok) {
        answerIn(form, told.words, "bad", told.hint);
        if (answer.status === 401) lost();
        return;
      }
      if (told.goto) {
        location.assign(told.goto);
        return;
      }
      tell(told.words, "good");
      form.querySelector("output")?.remove();
      for (const field of form.querySelectorAll("textarea, input:not([type=hidden])")) field.value = field.defaultValue;
      form.closest("details.asking")?.removeAttribute("open");
    } catch (error) {
      answerIn(form, "The dashboard does not answer", "bad", String(error.message || error));
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-act]")) return;
    event.preventDefault();
    send(form, event.submitter);
  });

  // -- the log ---------------------------------------------------------------------------------------

  let pendingLines = [];
  let drawing = false;
  const log = () => document.getElementById("log");
  const isAtEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const wantsFollow = () => document.getElementById("log-follow")?.checked;
  const drawLines = () => {
    drawing = false;
    const box = log();
    if (!box || !pendingLines.length) return;
    const fragment = document.createDocumentFragment();
    for (const html of pendingLines.splice(0)) fragment.append(...parse(html).childNodes);
    showTimes(fragment, false);
    filterLines(fragment.children);
    box.append(fragment);
    for (let over = box.children.length - MOST_LINES; over > 0; over -= 1) box.firstElementChild.remove();
    if (wantsFollow()) box.scrollTop = box.scrollHeight;
  };
  const print = (html) => {
    pendingLines.push(html);
    if (pendingLines.length > 200) pendingLines.splice(0, pendingLines.length - 200);
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(drawLines);
    }
  };
  const filterLines = (lines) => {
    const wanted = (document.getElementById("log-find")?.value || "").toLowerCase();
    for (const line of lines) {
      line.hidden = wanted !== "" && !line.lastElementChild?.textContent.toLowerCase().includes(wanted);
    }
  };
  document.addEventListener("input", (event) => {
    if (event.target.id === "log-find") filterLines(log().children);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "log-follow" && event.target.checked) log().scrollTop = log().scrollHeight;
  });
  const watchScroll = () => {
    const box = log();
    if (!box) return;
    box.scrollTop = box.scrollHeight;
    for (const kind of ["wheel", "touchmove", "keyup"]) {
      box.addEventListener(kind, () => {
        const follow = document.getElementById("log-follow");
        if (follow) setTimeout(() => { follow.checked = isAtEnd(box); }, 50);
      }, { passive: true });
    }
  };

  // -- the stream ------------------------------------------------------------------------------------

  let source = null;
  let place = "";
  let retry = null;
  let hiddenTimer = null;
  const say = (words, kind) => {
    stateLine.textContent = words;
    stateLine.className = `state ${kind}`;
  };
  const lost = () => {
    say("Signed out: open the printed link again", "bad");
    source?.close();
    source = null;
  };
  const happened = (events) => {
    const list = document.getElementById("activity");
    if (!list) return;
    list.querySelector(".none")?.remove();
    for (const event of events) {
      const item = document.createElement("li");
      const time = document.createElement("time");
      time.dateTime = event.at;
      time.dataset.form = "clock";
      showTime(time, new Date());
      const kind = document.createElement("b");
      kind.textContent = event.type.replace(/^job\./, "").replaceAll("_", " ");
      kind.className = `e-${event.type.replace(".", "-")}`;
      item.append(time, " ", kind, " ");
      if (event.job) {
        const link = document.createElement("a");
        link.className = "id";
        link.href = `/jobs/${encodeURIComponent(event.job)}`;
        link.textContent = event.job.slice(-8);
        item.append(link, " ");
      }
      const words = document.createElement("span");
      words.className = "quiet";
      words.textContent = event.words;
      item.append(words);
      list.prepend(item);
    }
    while (list.children.length > MOST_ACTIVITY) list.lastElementChild.remove();
  };
  const open = () => {
    clearTimeout(retry);
    source?.close();
    if (!place) place = `;${log()?.dataset.place || ""}`;
    const query = new URLSearchParams({ page: live.dataset.page, seen: live.dataset.version, place });
    source = new EventSource(`/stream?${query}`);
    const on = (kind, work) => source.addEventListener(kind, (event) => {
      place = event.lastEventId;
      work(JSON.parse(event.data));
    });
    source.addEventListener("open", () => say("Live", "good"));
    on("page", ([version, html]) => {
      live.dataset.version = version;
      show(html);
    });
    on("happened", happened);
    on("log", print);
    on("state", (state) => (state === "away" ? say("The database is away; waiting for it", "bad") : say("Live", "good")));
    source.addEventListener("error", async () => {
      say("The dashboard does not answer; trying again", "bad");
      if (source?.readyState !== EventSource.CLOSED) return;
      clearTimeout(retry);
      // It answered, but not with a stream: signed out, or starting.
      const answer = await fetch("/stream", { method: "HEAD", headers: { accept: "application/json" } }).catch(() => null);
      if (answer?.status === 401) lost();
      else retry = setTimeout(open, 1500);
    });
  };
  // Browsers keep six connections to a server: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (live.dataset.live === undefined) return;
    clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = setTimeout(() => {
        source?.close();
        source = null;
      }, HIDDEN_FOR);
    } else if (!source) {
      open();
    }
  });

  // So does one that is left: a browser keeps it, with its connection, to go back to.
  window.addEventListener("pagehide", () => {
    source?.close();
    source = null;
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted && live.dataset.live !== undefined && !source) open();
  });

  // -- keys, theme, beginning ------------------------------------------------------------------------

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "Escape") {
      for (const one of document.querySelectorAll("details.asking[open]")) one.removeAttribute("open");
      if (typing) event.target.blur();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector(".find input")?.focus();
    } else if (event.key === "n") {
      location.assign("/jobs/new");
    } else if (event.key === "j" || event.key === "k") {
      const links = [...document.querySelectorAll("main .id[href]")];
      const at = links.indexOf(document.activeElement);
      links[Math.min(links.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
    }
  });
  const themeButton = document.getElementById("theme");
  if (themeButton) {
    themeButton.hidden = false;
    themeButton.addEventListener("click", () => {
      const root = document.documentElement;
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try {
        localStorage.setItem("persona-theme", root.dataset.theme);
      } catch {
        // Then it holds for this page only.
      }
    });
  }
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  dress();
  watchScroll();
  setInterval(() => showTimes(live, true), 1000);
  if (live.dataset.live !== undefined) open();
  else if (document.querySelector("[data-away]")) setTimeout(() => location.reload(), 2000);
})();
