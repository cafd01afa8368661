"use strict";
// All text reaches the page as text nodes: nothing that a model wrote is ever read as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const ROW_HEIGHT = 44;
const NO_PROBABILITY = -20; // nats, in place of the logarithm of zero
const SET_NAMES = { rollouts: "training rollouts", evaluation: "held-out responses" };

const FIELDS = {
  rollouts: {
    expert: (s) => (s.s === undefined ? "not asked yet" : s.s ? "silent" : "has a distribution"),
    "finish reason": (s) => s.f,
    reward: (s) => (s.r === undefined || s.r === null ? "none" : String(s.r)),
    feedback: (s) => (s.b && s.b.length ? s.b.map((item) => item[0]) : "none"),
    "expert wrote on": (s) => (s.w ? "yes" : "no"),
    problem: (s) => s.id.split("/")[1],
  },
  evaluation: {
    split: (s) => s.d,
    expert: (s) => (s.s ? "not asked" : s.q ? "right at least once" : "never right"),
    "right samples": (s) => `${s.k} of ${s.n}`,
  },
};
const ORDERS = {
  "as in the table": null,
  "most disagreement first": (s) => -disagreement(s),
  "least disagreement first": (s) => disagreement(s),
  "longest first": (s) => -(s.t ? s.t.length : s.a.length),
  "shortest first": (s) => (s.t ? s.t.length : s.a.length),
};
const state = { set: null, all: [], shown: [], at: 0 };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

// Nats by which the sampler is surer of each token than the expert.
function costs(sample) {
  if (!sample.l) return [];
  return sample.l.map((logprob, i) => (sample.m[i] ?? NO_PROBABILITY) - (logprob ?? NO_PROBABILITY));
}

function disagreement(sample) {
  return costs(sample).reduce((sum, cost) => sum + cost, 0);
}

function values(sample, field) {
  const found = FIELDS[state.set][field](sample);
  return Array.isArray(found) ? found : [found];
}

function searched(sample) {
  if (sample.text === undefined) {
    const contexts = [sample.p, sample.c, sample.x].filter((n) => n !== undefined);
    const feedback = (sample.b ?? []).map((item) => item[1]);
    const turns = (sample.y ?? []).flatMap(([action, answer, said]) => [
      action,
      answer ?? "",
      ...said.map((item) => item[1]),
    ]);
    const parts = [sample.id, sample.a, sample.e ?? "", ...turns, ...feedback, ...(sample.w ?? [])];
    Object.defineProperty(sample, "text", {
      value: [...parts, ...contexts.map((n) => data.texts[n])].join("\n").toLowerCase(),
    });
  }
  return sample.text;
}

function options(select, entries) {
  select.replaceChildren(
    ...entries.map(([value, text]) => {
      const option = element("option", "", text);
      option.value = value;
      return option;
    }),
  );
}

function counted(found) {
  const counts = new Map();
  for (const value of found) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

function chooseSet(name) {
  state.set = name;
  state.all = data.sets[name];
  const verdicts = counted(state.all.map((sample) => sample.v));
  options(byId("verdict"), [
    ["", "every verdict"],
    ...verdicts.map(([verdict, count]) => [verdict, `${verdict} (${count})`]),
  ]);
  options(byId("field"), [["", "every field"], ...Object.keys(FIELDS[name]).map((f) => [f, f])]);
  const orders = Object.keys(ORDERS).filter(
    (order) => name === "rollouts" || !order.includes("disagreement"),
  );
  options(byId("order"), orders.map((order) => [order, order]));
  const total = data.totals[name];
  byId("left-out").textContent =
    total > state.all.length
      ? `The first ${state.all.length} of ${total} samples; more with --max-rows.`
      : "";
  chooseField();
}

function chooseField() {
  const field = byId("field").value;
  const found = field ? counted(state.all.flatMap((sample) => values(sample, field))) : [];
  byId("value").hidden = !field;
  options(byId("value"), [
    ["", "every value"],
    ...found.map(([value, count]) => [value, `${value} (${count})`]),
  ]);
  filter();
}

function filter(keep) {
  const verdict = byId("verdict").value;
  const field = byId("field").value;
  const value = byId("value").value;
  const words = byId("search").value.toLowerCase();
  state.shown = state.all.filter(
    (sample) =>
      (!verdict || sample.v === verdict) &&
      (!field || !value || values(sample, field).includes(value)) &&
      (!words || searched(sample).includes(words)),
  );
  const key = ORDERS[byId("order").value];
  if (key) {
    const keys = new Map(state.shown.map((sample) => [sample, key(sample)]));
    state.shown.sort((a, b) => keys.get(a) - keys.get(b));
  }
  byId("count").textContent = `${state.shown.length} of ${state.all.length}`;
  byId("rows").style.height = `${state.shown.length * ROW_HEIGHT}px`;
  byId("list").scrollTop = 0;
  show(Math.max(0, state.shown.findIndex((sample) => sample.id === keep)));
}

function drawList() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 5);
  const last = Math.min(state.shown.length, first + Math.ceil(list.clientHeight / ROW_HEIGHT) + 10);
  const rows = [];
  for (let i = first; i < last; i++) {
    const sample = state.shown[i];
    const row = element("div", i === state.at ? "row chosen" : "row");
    row.style.top = `${i * ROW_HEIGHT}px`;
    const head = element("div", "head");
    head.append(
      element("span", sample.v, sample.v),
      element("span", "muted", state.set === "rollouts" ? sample.id : `${sample.k} of ${sample.n} right`),
    );
    row.append(head, element("div", "mono", sample.a));
    row.addEventListener("click", () => show(i));
    rows.push(row);
  }
  byId("rows").replaceChildren(...rows);
}

function show(index) {
  state.at = Math.min(Math.max(0, index), Math.max(0, state.shown.length - 1));
  const list = byId("list");
  const top = state.at * ROW_HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight)
    list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
  byId("previous").disabled = state.at === 0;
  byId("next").disabled = state.at >= state.shown.length - 1;
  drawList();
  const article = byId("sample");
  article.scrollTop = 0;
  const sample = state.shown[state.at];
  if (!sample) {
    article.replaceChildren(element("p", "muted", "No sample is like that."));
    return;
  }
  history.replaceState(null, "", `#${state.set}/${encodeURIComponent(sample.id)}`);
  article.replaceChildren(...(state.set === "rollouts" ? rollout(sample) : heldOut(sample)));
}

function facts(entries) {
  const line = element("div", "facts");
  for (const [name, value, className] of entries) {
    if (value === undefined || value === null) continue;
    const fact = element("span");
    fact.append(element("span", "muted", `${name} `), element("b", className ?? "", String(value)));
    line.append(fact);
  }
  return line;
}

function block(title, text) {
  return [element("h2", "", title), element("pre", "", text)];
}

function feedbackOf(sample) {
  return (sample.b ?? []).flatMap(([kind, text]) => block(kind.replaceAll("_", " "), text));
}

function rollout(sample) {
  const parts = [
    facts([
      ["rollout", sample.id, "mono"],
      ["verdict", sample.v, sample.v],
      ["reward", sample.r],
      ["finish", sample.f],
      ["tokens", sample.t.length],
      ["expert", FIELDS.rollouts.expert(sample)],
    ]),
  ];
  if (sample.e) parts.push(...block("error", sample.e));
  parts.push(...block("prompt", data.texts[sample.p]));
  if (sample.y) sample.y.forEach((turn, i) => parts.push(...turnBlocks(turn, i)));
  else parts.push(...block("attempt", sample.a));
  if (sample.t.length) parts.push(...credit(sample));
  parts.push(...feedbackOf(sample));
  if (sample.x !== undefined) parts.push(...block("the expert's context", data.texts[sample.x]));
  for (const text of sample.w ?? []) parts.push(...block("what the expert wrote itself", text));
  parts.push(...block("the student's context", data.texts[sample.c]));
  return parts;
}

function turnBlocks([action, answer, said, reward, marked], i) {
  const noted = [...(marked ? ["marked"] : []), ...(reward === null ? [] : [`reward ${reward}`])];
  return [
    ...block([`turn ${i + 1}`, ...noted].join(", "), action),
    ...(answer === null ? [] : block("what the environment answered", answer)),
    ...said.flatMap(([kind, text]) => block(`${kind.replaceAll("_", " ")} on turn ${i + 1}`, text)),
  ];
}

function heldOut(sample) {
  const parts = [
    facts([
      ["problem", sample.id, "mono"],
      ["split", sample.d],
      ["verdict of the first response", sample.v, sample.v],
      ["right", `${sample.k} of ${sample.n}`],
      ["expert right", sample.s ? "not asked" : `${sample.q} of ${sample.o}`],
    ]),
    ...block("prompt", data.texts[sample.p]),
    ...block("first response", sample.a),
    ...feedbackOf(sample),
  ];
  for (const text of sample.w) parts.push(...block("the expert's answer to that feedback", text));
  return parts;
}

// The policy's tokens, and between them what the environment wrote, which has no credit.
function withAnswers(sample, tokens) {
  const answers = new Map(sample.o ?? []);
  return tokens.flatMap((token, i) =>
    answers.has(i + 1) ? [token, element("span", "answer", answers.get(i + 1))] : [token],
  );
}

// The response token by token: against the expert, what is still to come, the expert's choice.
function credit(sample) {
  const perToken = costs(sample);
  if (!perToken.length) {
    const line = element("div", "tokens");
    const tokens = sample.t.map((token) => element("span", "token", data.tokens[token]));
    line.append(...withAnswers(sample, tokens));
    return [element("h2", "", "tokens (no distribution of the expert)"), line];
  }
  const future = perToken.map((_, i) => perToken.slice(i + 1).reduce((sum, c) => sum + c, 0));
  const detail = element("p", "legend mono", "Point at a token for its probabilities.");
  const unstored = new Set(sample.u);
  const say = (i) => {
    const percent = (logprob) => (logprob === null ? "0" : (100 * Math.exp(logprob)).toFixed(1)) + "%";
    const at = unstored.has(i) ? "at most " : "";
    const choice = sample.g[i] < 0 ? "nothing" : `${JSON.stringify(data.tokens[sample.g[i]])} ${percent(sample.h[i])}`;
    detail.textContent =
      `${JSON.stringify(data.tokens[sample.t[i]])}: student ${percent(sample.m[i])}, expert ${at}` +
      `${percent(sample.l[i])}; the expert's choice ${choice}; here ${perToken[i].toFixed(2)}, ` +
      `still to come ${future[i].toFixed(2)} nats`;
  };
  const line = (numbers, kind) => {
    const largest = Math.max(0.5, ...numbers.map(Math.abs));
    const tokens = element("div", "tokens");
    const drawn = numbers.map((number, i) => {
      const sign = kind ?? (number > 0 ? "more" : "less");
      const token = element("span", `token ${sign}`, data.tokens[sample.t[i]]);
      token.style.setProperty("--shade", (0.85 * Math.max(0, kind ? number : Math.abs(number)) / largest).toFixed(3));
      token.addEventListener("mouseenter", () => say(i));
      return token;
    });
    tokens.append(...withAnswers(sample, drawn));
    return tokens;
  };
  const wanted = element("div", "tokens");
  const choices = sample.g.map((token, i) => {
    const differs = token >= 0 && token !== sample.t[i];
    const choice = element("span", differs ? "token more" : "token", token < 0 ? "·" : data.tokens[token]);
    if (differs) choice.style.setProperty("--shade", "0.45");
    choice.addEventListener("mouseenter", () => say(i));
    return choice;
  });
  wanted.append(...withAnswers(sample, choices));
  return [
    element("h2", "", "credit per token: the student against the expert"),
    line(perToken),
    element("p", "legend", "Orange: the student was surer of the token than the expert is; green: less sure (log μ − log T, in nats)."),
    element("h2", "", "credit still to come"),
    line(future, "future"),
    element("p", "legend", "Blue: the same, summed over the tokens after it, for which it answers in the future credit."),
    ...(sample.o?.length
      ? [element("p", "legend", "Grey: what the environment wrote. It has no credit and is not trained on.")]
      : []),
    element("h2", "", "what the expert finds most likely there"),
    wanted,
    detail,
  ];
}

function open(hash) {
  const [set, id] = decodeURIComponent(hash.slice(1)).split(/\/(.*)/s);
  const name = data.sets[set] ? set : Object.keys(data.sets)[0];
  byId("set").value = name;
  chooseSet(name);
  const index = state.shown.findIndex((sample) => sample.id === id);
  if (index > 0) show(index);
}

options(byId("set"), Object.keys(data.sets).map((name) => [name, SET_NAMES[name]]));
byId("set").addEventListener("change", (event) => chooseSet(event.target.value));
byId("field").addEventListener("change", chooseField);
for (const id of ["verdict", "value"])
  byId(id).addEventListener("change", () => filter(state.shown[state.at]?.id));
byId("order").addEventListener("change", () => filter());
byId("search").addEventListener("input", () => filter(state.shown[state.at]?.id));
byId("list").addEventListener("scroll", drawList);
byId("previous").addEventListener("click", () => show(state.at - 1));
byId("next").addEventListener("click", () => show(state.at + 1));
addEventListener("resize", drawList);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) return;
  const step = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  show(state.at + step);
});
open(location.hash);
