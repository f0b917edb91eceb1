// What pages do beyond being read: keep themselves up to date, search while typing, and read and zoom charts.
// Without it everything can still be read, sorted, paged and searched.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Colours: the system's, or the ones that were chosen. Before anything is drawn.
  const THEMES = ["", "light", "dark"];
  const NAMES = { "": "as the system has them", light: "light", dark: "dark" };
  const chosen = () => { try { return localStorage.getItem("coinetl-theme") || ""; } catch { return ""; } };
  const paint = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  paint(chosen());

  function themeButton() {
    const button = document.getElementById("theme");
    if (!button) return;
    const tell = () => {
      const label = "Colours: " + NAMES[root.dataset.theme || ""];
      button.setAttribute("aria-label", label);
      button.title = label;
    };
    button.hidden = false;
    tell();
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
      paint(next);
      try { localStorage.setItem("coinetl-theme", next); } catch { /* remembered for this page only */ }
      tell();
    });
  }

  // Ages. The server's clock counts: ours may be wrong.
  let skew = 0;
  function ageText(s) {
    if (s < 5) return "just now";
    if (s < 60) return s + " s ago";
    if (s < 3600) return Math.floor(s / 60) + " min ago";
    if (s < 172800) return Math.floor(s / 3600) + " h ago";
    return Math.floor(s / 86400) + " days ago";
  }
  function tick() {
    if (document.hidden) return;
    const now = Date.now() + skew;
    for (const time of all("time.age")) {
      const seconds = Math.floor((now - Date.parse(time.dateTime)) / 1000);
      const text = ageText(seconds);
      if (time.textContent !== text) time.textContent = text;
      const aged = time.closest("[data-stale]");
      const badge = aged && aged.querySelector(".stale");
      if (badge) badge.hidden = seconds <= Number(aged.dataset.stale);
    }
  }

  // One tree becomes another by the fewest changes: what has the focus, is hovered or scrolled stays.
  const isLocal = (node) => node.nodeType === 1 && node.hasAttribute("data-local");
  const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") || node.id || null : null);
  let flashes = null;

  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    const isAge = old.localName === "time" && old.classList.contains("age");
    if (isAge && old.dateTime === fresh.dateTime) return;
    if (old.hasAttribute("data-flash") && flashes) {
      const [was, is] = [Number(old.dataset.flash), Number(fresh.dataset.flash)];
      if (is !== was && Number.isFinite(was) && Number.isFinite(is)) flashes.push([old, is > was]);
    }
    const isTyped = old === document.activeElement && ["INPUT", "SELECT"].includes(old.nodeName);
    for (const { name } of [...old.attributes]) {
      const isOurs = name === "tabindex" || name === "open" && old.nodeName === "DETAILS";
      if (!fresh.hasAttribute(name) && !isOurs) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      // Whether something is stale by now is for the clock to say.
      if (name === "hidden" && old.classList.contains("stale")) continue;
      if (old.getAttribute(name) !== value && !(isTyped && name === "value")) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
    if (!isTyped && (old.nodeName === "INPUT" || old.nodeName === "SELECT") && old.value !== fresh.value) old.value = fresh.value;
  }

  function morphChildren(old, fresh) {
    const keyed = new Map();
    for (const child of old.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
    let at = old.firstChild;
    const pass = () => { while (at && isLocal(at)) at = at.nextSibling; };
    for (const next of [...fresh.childNodes]) {
      pass();
      const key = keyOf(next);
      let match = key ? keyed.get(key) : null;
      if (!key && at && !keyOf(at) && at.nodeName === next.nodeName) match = at;
      if (match && match.nodeName !== next.nodeName) match = null;
      if (!match) {
        old.insertBefore(document.importNode(next, true), at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else old.insertBefore(match, at);
      morph(match, next);
    }
    while (at) {
      const next = at.nextSibling;
      if (!isLocal(at)) at.remove();
      at = next;
    }
  }

  // A tree that is moved loses the focus on the way.
  function become(old, fresh, isNews) {
    const focused = document.activeElement;
    flashes = isNews ? [] : null;
    morph(old, fresh);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    for (const [node, isUp] of flashes || []) {
      const name = isUp ? "flash-up" : "flash-down";
      node.classList.add(name);
      setTimeout(() => node.classList.remove(name), 1500);
    }
    flashes = null;
    drawn = new WeakMap();
    prepare();
    tick();
  }

  // Asking for pages. The newest wish counts.
  let asking = null;
  let lastText = "";

  async function ask(url) {
    if (asking) asking.abort();
    const mine = (asking = new AbortController());
    try {
      const response = await fetch(url, { headers: { accept: "text/html" }, cache: "no-cache", signal: mine.signal });
      const date = Date.parse(response.headers.get("date") || "");
      if (Number.isFinite(date) && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
      const text = await response.text();
      return { ok: response.ok, status: response.status, text };
    } finally {
      if (asking === mine) asking = null;
    }
  }

  const parsed = (text) => new DOMParser().parseFromString(text, "text/html");

  function show(text, isNews) {
    lastText = text;
    const fresh = parsed(text);
    const [old, next] = [document, fresh].map((of) => of.getElementById("main"));
    if (old && next) become(old, next, isNews);
    const banner = [document, fresh].map((of) => of.querySelector("[data-part=banner]"));
    if (banner[0] && banner[1]) morph(banner[0], banner[1]);
    document.title = fresh.title;
  }

  async function go(url, { push = true, top = false } = {}) {
    try {
      const page = await ask(url);
      if (page.status >= 500) throw new Error("the server can't answer");
      show(page.text, false);
      if (push) history.pushState(null, "", url);
      if (top) document.querySelector("[data-part=coins]")?.scrollIntoView({ block: "start" });
    } catch (err) {
      if (err.name !== "AbortError") location.href = url;
    }
  }

  // The same page again, because the data changed.
  async function refresh() {
    if (document.querySelector("meta[http-equiv=refresh]")) return;
    // What a person asked for goes first.
    if (asking) return void setTimeout(refresh, 500);
    try {
      const page = await ask(location.href);
      if (page.status >= 500) return live("lost");
      live("on");
      if (page.text !== lastText) show(page.text, true);
    } catch (err) {
      if (err.name !== "AbortError") live("lost");
    }
  }

  // News.
  let source = null;
  let polling = null;
  function live(state) {
    const sign = document.getElementById("live");
    if (!sign || sign.dataset.live === state) return;
    sign.dataset.live = state;
    sign.querySelector(".live-text").textContent = { on: "Live", lost: "Connection lost", off: "" }[state];
  }
  function listen() {
    if (source || document.hidden) return;
    clearTimeout(polling);
    source = new EventSource("/events");
    source.onopen = refresh;
    source.addEventListener("version", refresh);
    source.onerror = () => {
      live("lost");
      // It comes back by itself, unless it was turned away.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        polling = setTimeout(() => { refresh(); listen(); }, 30000);
      }
    };
  }
  function rest() {
    if (source) source.close();
    source = null;
    clearTimeout(polling);
  }

  // Links and forms that change a part of this page.
  const plainClick = (event) => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[data-swap]");
    if (!link || !plainClick(event)) return;
    event.preventDefault();
    go(link.href, { top: link.hasAttribute("data-top") });
  });
  function addressOf(form) {
    const url = new URL(form.action);
    url.search = "";
    for (const [name, value] of new FormData(form)) if (value !== "") url.searchParams.append(name, value);
    return url;
  }
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    go(addressOf(event.target).href);
  });
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.form && field.hasAttribute("data-submit") && field.validity.valid) go(addressOf(field.form).href);
  });
  let typing = null;
  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (event.target.type !== "search" || !form || !form.dataset.liveSearch) return;
    clearTimeout(typing);
    typing = setTimeout(async () => {
      const part = form.dataset.liveSearch;
      const url = addressOf(form);
      const wanted = new URL(url);
      wanted.searchParams.set("part", part);
      try {
        const page = await ask(wanted.href);
        const [old, fresh] = [document, parsed(page.text)].map((of) => of.querySelector(`[data-part="${part}"]`));
        if (!page.ok || !old || !fresh) return;
        become(old, fresh, false);
        history.replaceState(null, "", url.href);
      } catch { /* the next letter asks again */ }
    }, 120);
  });
  window.addEventListener("popstate", () => go(location.href, { push: false }));

  // Charts.
  let drawn = new WeakMap();
  const SVG = "http://www.w3.org/2000/svg";
  const svgOf = (figure) => all("svg.plot", figure).find((svg) => svg.getBoundingClientRect().width > 0);

  function chartOf(figure) {
    const svg = svgOf(figure);
    if (!svg || !svg.dataset.from) return null;
    if (drawn.has(svg)) return drawn.get(svg);
    const panels = all("[data-area]", svg).map((node) => {
      const [x, y, width, height] = node.dataset.area.split(" ").map(Number);
      return { x, y, width, height, unit: node.dataset.unit, low: Number(node.dataset.low), high: Number(node.dataset.high), isLog: node.dataset.scale === "log", node };
    });
    const lines = [];
    for (const panel of panels) {
      for (const node of [panel.node, ...all("[data-t0]", panel.node)].filter((node) => node.dataset.t0)) {
        const numbers = (text) => text.split(" ").map(Number);
        const data = {};
        for (const name of ["v", "o", "h", "l", "c"]) if (node.dataset[name]) data[name] = numbers(node.dataset[name]);
        const count = (data.v || data.c || []).length;
        const [first, step] = [Number(node.dataset.t0), Number(node.dataset.dt)];
        const ways = node.dataset.t ? numbers(node.dataset.t) : null;
        const times = [first];
        for (let n = 1; n < count; n++) times.push(times[n - 1] + step * (ways ? ways[n - 1] : 1));
        lines.push({ panel, name: node.dataset.name, data, times, length: Number(node.dataset.length || 0) });
      }
    }
    const chart = {
      figure, svg, panels, lines,
      from: Number(svg.dataset.from), to: Number(svg.dataset.to),
      box: svg.viewBox.baseVal, at: null,
    };
    drawn.set(svg, chart);
    return panels.length && lines.length ? chart : null;
  }

  function timeAt(chart, clientX) {
    const rect = chart.svg.getBoundingClientRect();
    const { x, width } = chart.panels[0];
    const part = ((clientX - rect.left) / rect.width * chart.box.width - x) / width;
    return chart.from + Math.min(1, Math.max(0, part)) * (chart.to - chart.from);
  }
  const placeOf = (chart, time) => chart.panels[0].x + (time - chart.from) / (chart.to - chart.from) * chart.panels[0].width;

  function nearest(times, time) {
    let [low, high] = [0, times.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1; else high = middle;
    }
    return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
  }

  function number(value, unit) {
    const size = Math.abs(value);
    const plain = (places) => value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
    if (unit === "%" || unit === "") return (value > 0 ? "+" : "") + plain(2) + " %";
    if (value === 0) return "0";
    if (size >= 1e15 || size < 1e-8) return value.toExponential(3);
    if (size >= 1e9) return (value / (size >= 1e12 ? 1e12 : 1e9)).toFixed(2) + (size >= 1e12 ? " T" : " B");
    if (size >= 1000) return plain(2);
    if (size >= 1) return plain(4);
    return value.toPrecision(4).replace(/0+$/, "");
  }

  function overlay(chart) {
    const holder = chart.svg.parentElement;
    let over = holder.querySelector(":scope > svg[data-local]");
    if (!over) {
      over = document.createElementNS(SVG, "svg");
      over.setAttribute("data-local", "");
      over.setAttribute("aria-hidden", "true");
      over.style.cssText = "position:absolute;inset:0;width:100%;height:100%;pointer-events:none";
      holder.append(over);
    }
    over.setAttribute("viewBox", `0 0 ${chart.box.width} ${chart.box.height}`);
    return over;
  }
  function shape(over, name, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    over.append(node);
  }

  function clear(figure) {
    for (const node of all("[data-local]", figure)) node.remove();
  }

  function read(chart, time) {
    const first = chart.lines[0];
    const at = first.times[nearest(first.times, time - first.length / 2)];
    chart.at = at;
    const over = overlay(chart);
    over.replaceChildren();
    const x = placeOf(chart, at + first.length / 2);
    const [top, last] = [chart.panels[0], chart.panels[chart.panels.length - 1]];
    shape(over, "line", { class: "cross", x1: x, x2: x, y1: top.y, y2: last.y + last.height });
    let box = chart.figure.querySelector(":scope > .readout");
    if (!box) {
      box = document.createElement("div");
      box.className = "readout";
      box.setAttribute("data-local", "");
      box.setAttribute("role", "status");
      chart.figure.append(box);
    }
    box.replaceChildren();
    const line = (name, text) => {
      const [row, label, value] = ["div", "span", "b"].map((tag) => document.createElement(tag));
      label.textContent = name + " ";
      value.textContent = text;
      row.append(label, value);
      box.append(row);
    };
    line("", new Date(at).toISOString().replace("T", " ").slice(0, chart.to - chart.from < 6e5 ? 19 : 16));
    for (const one of chart.lines) {
      const n = nearest(one.times, at);
      const unit = one.panel.unit;
      if (one.data.c) {
        for (const [key, name] of [["o", "open"], ["h", "high"], ["l", "low"], ["c", "close"]]) line(name, number(one.data[key][n], unit));
        if (one.data.v && one.data.v[n]) line("volume", number(one.data.v[n], "volume"));
        continue;
      }
      const value = one.data.v[n];
      line(chart.lines.length > 1 ? one.name : "", number(value, unit) + (unit && unit !== "%" ? " " + unit : ""));
      const { low, high, y, height, isLog } = one.panel;
      const part = isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
      if (Number.isFinite(part)) shape(over, "circle", { class: "cross-dot", cx: placeOf(chart, one.times[n]), cy: y + (1 - part) * height, r: 4 });
    }
    const share = x / chart.box.width;
    box.style.left = share < 0.5 ? `calc(${share * 100}% + 14px)` : "auto";
    box.style.right = share < 0.5 ? "auto" : `calc(${(1 - share) * 100}% + 14px)`;
  }

  function zoom(from, to) {
    const url = new URL(location.href);
    const now = Date.now() + skew;
    to = Math.min(to, now);
    if (to - from < 60000) return;
    url.searchParams.delete("period");
    url.searchParams.set("from", Math.max(0, Math.floor(from)));
    url.searchParams.set("to", Math.ceil(to));
    go(url.href);
  }
  function zoomOut() {
    const url = new URL(location.href);
    if (!url.searchParams.has("from")) return;
    url.searchParams.delete("from");
    url.searchParams.delete("to");
    go(url.href);
  }

  let drag = null;
  const figureOf = (event) => event.target.closest && event.target.closest("figure[data-chart]");
  document.addEventListener("pointermove", (event) => {
    const figure = drag ? drag.chart.figure : figureOf(event);
    const chart = figure && chartOf(figure);
    if (!chart) return;
    read(chart, timeAt(chart, event.clientX));
    if (!drag) return;
    const [a, b] = [drag.from, timeAt(chart, event.clientX)].map((time) => placeOf(chart, time));
    const [top, last] = [chart.panels[0], chart.panels[chart.panels.length - 1]];
    shape(overlay(chart), "rect", { class: "zoom-box", x: Math.min(a, b), width: Math.abs(b - a), y: top.y, height: last.y + last.height - top.y });
  });
  document.addEventListener("pointerdown", (event) => {
    const figure = figureOf(event);
    const chart = figure && figure.hasAttribute("data-zoom") && event.button === 0 && event.pointerType === "mouse" && chartOf(figure);
    if (!chart) return;
    drag = { chart, from: timeAt(chart, event.clientX), x: event.clientX };
    event.preventDefault();
    figure.focus({ preventScroll: true });
  });
  document.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { chart, from, x } = drag;
    drag = null;
    clear(chart.figure);
    const to = timeAt(chart, event.clientX);
    if (Math.abs(event.clientX - x) > 8) zoom(Math.min(from, to), Math.max(from, to));
  });
  document.addEventListener("pointerout", (event) => {
    const figure = figureOf(event);
    if (figure && !drag && !figure.contains(event.relatedTarget)) clear(figure);
  });
  document.addEventListener("dblclick", (event) => { if (figureOf(event)) zoomOut(); });
  document.addEventListener("focusout", (event) => { if (event.target.matches && event.target.matches("figure[data-chart]")) clear(event.target); });
  document.addEventListener("keydown", (event) => {
    const figure = event.target.matches && event.target.matches("figure[data-chart]") && event.target;
    const chart = figure && !event.ctrlKey && !event.metaKey && !event.altKey && chartOf(figure);
    if (!chart) return;
    const { times } = chart.lines[0];
    const now = chart.at === null ? times.length : nearest(times, chart.at);
    const step = event.shiftKey ? 10 : 1;
    const middle = chart.at === null ? (chart.from + chart.to) / 2 : chart.at;
    const length = chart.to - chart.from;
    const move = (n) => read(chart, times[Math.min(times.length - 1, Math.max(0, n))] + chart.lines[0].length / 2);
    const keys = {
      ArrowLeft: () => move(now - step),
      ArrowRight: () => move(now + step),
      Home: () => move(0),
      End: () => move(times.length - 1),
      "+": () => zoom(middle - length / 4, middle + length / 4),
      "-": () => zoom(middle - length, middle + length),
      Escape: () => { if (figure.querySelector(".readout")) clear(figure); else zoomOut(); },
    };
    const key = event.key === "=" ? "+" : event.key;
    const isZoom = key === "+" || key === "-";
    if (!keys[key] || isZoom && !figure.hasAttribute("data-zoom")) return;
    event.preventDefault();
    keys[key]();
  });

  // What a fresh tree needs.
  function prepare() {
    for (const figure of all("figure[data-chart]")) figure.tabIndex = 0;
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeButton();
    prepare();
    tick();
    setInterval(tick, 1000);
    if (!document.querySelector("meta[http-equiv=refresh]")) listen();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return rest();
      tick();
      listen();
    });
    window.addEventListener("pagehide", rest);
    window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  });
})();
