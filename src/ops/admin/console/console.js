// The console. Names come from whoever sends queries: they enter the page as text nodes only, never as markup.
// The token lives in this variable and nowhere else.
let token = "";

//--- Texts -----------------------------------------------------------------------------------------------------------

const TEXTS = {
  zh: {
    skip: "跳到内容", subtitle: "备案网关控制台", mode: "模式", uptime: "已运行", memory: "内存", clock: "网关时间 UTC",
    lock: "需要令牌", "lock-lead": "此网关配置了 admin.token-file。令牌只保存在本页内存中，关闭页面即忘记。", token: "令牌", unlock: "进入",
    "token-wrong": "令牌不对。请核对 admin.token-file 指向的文件内容。", "token-slow": "失败次数过多，请在 {0} 秒后再试。",
    ask: "查询判定", name: "域名或地址", address: "解析到的地址（可选，逗号分隔）", plane: "入口", judge: "判定", judging: "判定中…",
    rates: "实时速率", "rates-note": "每秒，最近两分钟", reasons: "原因", "reasons-note": "当前每秒 · 启动以来",
    registry: "备案库", ranges: "地址段", top: "拦截最多的域名", "top-note": "点击即判定", upstreams: "上游", planes: "监听", zones: "本地区域",
    keys: "按 / 查询", close: "关闭", reload: "重新加载数据", "reload-lead": "重读备案库、地址段、区域、页面和证书；配置文件不重读。变差的数据会被拒绝，旧数据保留。",
    preview: "先预览备案库", "reload-now": "重新加载", "reload-busy": "进行中…", "reload-button": "重新加载…", readonly: "只读",
    "readonly-why": "未配置 admin.token-file，控制台只读；可用 icpgate reload。",
    ready: "就绪", "not-ready": "未就绪", draining: "正在退出", watch: "仅观察，不拦截", off: "判定已关闭", warnings: "就绪，有 {0} 项提醒",
    live: "实时", wait: "连接中", lost: "已断开", gone: "连不上网关。下面是 {0} 时的状态；{1} 秒后重试。", "gone-first": "连不上网关，{1} 秒后重试。", retry: "立即重试",
    full: "实时连接已满（最多 16 个），{1} 秒后重试。",
    allow: "放行", block: "拦截", stampallow: "放行", stampblock: "拦截", total: "累计", peak: "峰值", "per-second": "/秒",
    queries: "DNS 查询", requests: "HTTP 请求", tls_connections: "TLS 连接", quic_flights: "QUIC 连接", connections: "打开的连接",
    reason: "原因", now: "每秒", since: "累计", none: "暂无", "no-verdicts": "启动以来还没有判定。", "no-top": "还没有拦截。", "no-upstreams": "未配置上游，只应答本地区域。",
    domain: "域名", blocks: "次数", latest: "最近", generation: "代", rows: "条目", digest: "摘要", loaded: "载入", confirmed: "距上次确认", files: "文件", findings: "问题",
    "last-reload": "上次加载", "last-change": "上次变化", published: "已发布", unchanged: "无变化", refused: "被拒绝", "refused-why": "被拒绝的原因，旧数据仍在使用",
    added: "新增", changed: "变更", removed: "移除", blocked: "变为拦截", released: "变为放行", "no-lines": "无差异", "took": "用时 {0} 毫秒", "first-load": "首次加载，共 {0} 条",
    "more": "另有 {0} 项，见 {1}", "not-loaded": "未载入", up: "正常", down: "无应答", age: "{0}前", server: "服务器", state: "状态",
    steps: "判定过程", facts: "依据", filing: "备案", "no-filing": "备案库中没有这个域名的条目。", range: "地址段", data: "所用数据", advice: "网站主办者要做什么", would: "怎样会改变结论",
    number: "备案号", access: "接入商", status: "状态", row: "条目位置", filed_on: "审核通过", updated_on: "最近变更", expires_on: "域名到期", provisional_access_until: "临时接入至",
    prefix: "网段", region: "区域", provider: "提供商", product: "产品", unknown: "未知", nobody: "无（空壳）", "registered": "备案域名", suffix: "公共后缀", "gen-since": "第 {0} 代，{1} 起",
    "not-enforced": "只报告，不执行", "in-line": "未给出地址：按网关位于本接入商的内地服务器之前判定。", copy: "复制编号", copied: "已复制", rule: "规则", source: "依据", decides: "决定于此", addresses: "每个地址单独看",
    shadow: "影子判定（不执行）", "shadow-note": "{0} 次判定，{1} 次结论不同", "no-shadow": "至今没有不同。", "shadow-live": "现在", "shadow-would": "影子",
    failed: "出错：{0}", "no-name": "请填写域名或地址。", started: "启动"
  },
  en: {
    skip: "Skip to content", subtitle: "ICP filing gate console", mode: "Mode", uptime: "Up", memory: "Memory", clock: "Gate time UTC",
    lock: "A token is needed", "lock-lead": "This gate has admin.token-file set. The token is kept in this page's memory only and forgotten with it.", token: "Token", unlock: "Enter",
    "token-wrong": "Not the token. Compare it with the file that admin.token-file names.", "token-slow": "Too many failures; try again in {0} s.",
    ask: "Ask for a verdict", name: "Name or address", address: "Where it leads (optional, commas)", plane: "Plane", judge: "Judge", judging: "Judging…",
    rates: "Live rates", "rates-note": "each second, last two minutes", reasons: "Reasons", "reasons-note": "a second now · since the start",
    registry: "Registry", ranges: "Ranges", top: "Most blocked domains", "top-note": "click to judge", upstreams: "Upstreams", planes: "Listeners", zones: "local zones",
    keys: "Press / to search", close: "Close", reload: "Reload the data", "reload-lead": "Reads registry, ranges, zones, pages and certificates again, not the configuration. Worse data are refused and the old ones stay.",
    preview: "Preview the registry", "reload-now": "Reload", "reload-busy": "Working…", "reload-button": "Reload…", readonly: "Read-only",
    "readonly-why": "admin.token-file is not set, so the console is read-only; icpgate reload works.",
    ready: "Ready", "not-ready": "Not ready", draining: "Draining", watch: "Observing, nothing is blocked", off: "Verdicts are off", warnings: "Ready, {0} to look at",
    live: "Live", wait: "Connecting", lost: "Lost", gone: "The gate does not answer. Below is the state of {0}; next attempt in {1} s.", "gone-first": "The gate does not answer; next attempt in {1} s.", retry: "Try now",
    full: "All 16 live connections are taken; next attempt in {1} s.",
    allow: "allowed", block: "blocked", stampallow: "ALLOW", stampblock: "BLOCK", total: "total", peak: "peak", "per-second": "/s",
    queries: "DNS queries", requests: "HTTP requests", tls_connections: "TLS connections", quic_flights: "QUIC connections", connections: "Open connections",
    reason: "Reason", now: "a second", since: "total", none: "none", "no-verdicts": "No verdict since the start.", "no-top": "Nothing blocked yet.", "no-upstreams": "None: only local zones are answered.",
    domain: "Domain", blocks: "Blocks", latest: "Latest", generation: "Generation", rows: "Rows", digest: "Digest", loaded: "Loaded", confirmed: "Last confirmed", files: "Files", findings: "Findings",
    "last-reload": "Last reload", "last-change": "Last change", published: "published", unchanged: "unchanged", refused: "refused", "refused-why": "Why it was refused; the old data stay in use",
    added: "added", changed: "changed", removed: "removed", blocked: "now blocked", released: "now allowed", "no-lines": "no difference", "took": "took {0} ms", "first-load": "first load, {0} rows",
    "more": "{0} more at {1}", "not-loaded": "not loaded", up: "up", down: "down", age: "{0} ago", server: "Server", state: "State",
    steps: "How it was decided", facts: "Evidence", filing: "Filing", "no-filing": "The registry has no row for this name.", range: "Range", data: "Data used", advice: "What the site's owner must do", would: "What would change it",
    number: "Number", access: "Access", status: "Status", row: "Row", filed_on: "Filed on", updated_on: "Changed on", expires_on: "Domain ends", provisional_access_until: "Provisional access until",
    prefix: "Prefix", region: "Region", provider: "Provider", product: "Product", unknown: "unknown", nobody: "nobody (shell)", "registered": "Domain", suffix: "Public suffix", "gen-since": "generation {0}, since {1}",
    "not-enforced": "reported, not enforced", "in-line": "No address given: judged as if the gate stood before a mainland server of ours.", copy: "Copy id", copied: "Copied", rule: "rule", source: "source", decides: "decides", addresses: "Each address alone",
    shadow: "Shadow (decides nothing)", "shadow-note": "{0} verdicts, {1} differ", "no-shadow": "No difference so far.", "shadow-live": "Now", "shadow-would": "Shadow",
    failed: "Failed: {0}", "no-name": "Enter a name or an address.", started: "started"
  }
};
const REASONS = {
  not_mainland: ["不在内地", "not on the mainland"], non_web: ["非 Web 服务", "no web service"], exempt: ["已豁免", "exempt"], not_ours: ["非本接入商", "not ours"],
  product_exempt: ["产品免接入", "product needs no access"], filed: ["已备案", "filed"], not_accessed: ["未接入", "not accessed here"], not_filed: ["未备案", "not filed"],
  not_bound: ["地址不符", "address not bound"], restricted: ["限制接入", "restricted"], ip_site: ["IP 站点", "bare-address site"], invalid_name: ["无效名称", "invalid name"]
};
const STATUSES = { active: ["有效", "active"], pending: ["审核中", "pending"], rejected: ["驳回", "rejected"], cancelled: ["已注销", "cancelled"], expired: ["已失效", "expired"] };

let language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
const $ = (id) => document.getElementById(id);
const t = (key, ...values) => (TEXTS[language][key] ?? key).replace(/\{(\d)\}/g, (_, i) => String(values[i]));
const named = (table, key) => (table[key] ? table[key][language === "zh" ? 0 : 1] : key);
const count = (n) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-GB").format(n);
const rate = (n) => (n === 0 ? "0" : n < 10 ? n.toFixed(1) : n < 10000 ? count(Math.round(n)) : `${(n / 1000).toFixed(1)}k`);
const moment = (text) => (text ? text.slice(0, 19).replace("T", " ") : "–");
const clock = (text) => text.slice(11, 19);

function span(seconds) {
  const zh = language === "zh";
  const units = [[86400, zh ? " 天" : " d"], [3600, zh ? " 小时" : " h"], [60, zh ? " 分" : " min"], [1, zh ? " 秒" : " s"]];
  const at = Math.max(0, units.findIndex(([size]) => seconds >= size));
  const [size, unit] = seconds < 1 ? units[3] : units[at];
  const rest = Math.floor((seconds % size) / (units[at + 1]?.[0] ?? 1));
  const first = `${Math.floor(seconds / size)}${unit}`;
  return size > 1 && rest > 0 ? `${first} ${rest}${units[at + 1][1]}` : first;
}

//--- Elements --------------------------------------------------------------------------------------------------------

// An element of this tag and classes ("li.bad"); children are elements, texts, or nothing.
function h(tag, ...children) {
  const [name, ...classes] = tag.split(".");
  const res = document.createElement(name);
  res.className = classes.join(" ");
  res.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return res;
}
function show(id, ...children) {
  const place = $(id);
  // What is selected or focused is not torn away by the next second.
  const selection = document.getSelection();
  const busy = place.contains(document.activeElement) || (selection && !selection.isCollapsed && place.contains(selection.anchorNode));
  if (!busy) place.replaceChildren(...children.flat().filter(Boolean));
}
function facts(pairs) {
  const list = h("dl.facts");
  for (const [key, value] of pairs) if (value !== null && value !== undefined) list.append(h("dt", key), h("dd", value));
  return list;
}
function table(heads, rows) {
  const head = h("tr", heads.map(([text, kind]) => { const cell = h(`th${kind ? `.${kind}` : ""}`, text); cell.scope = "col"; return cell; }));
  const cells = (row) => h("tr", row.map((value, i) => h(`td${heads[i][1] ? `.${heads[i][1]}` : ""}`, value)));
  return h("table", h("thead", head), h("tbody", rows.map(cells)));
}

//--- Asking ----------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message, after) { super(message); this.status = status; this.after = after; }
}
async function ask(path, options = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  if (response.ok || (options.accept ?? []).includes(response.status)) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.error ?? `${response.status}`, Number(response.headers.get("retry-after") ?? 0));
}
const read = async (path) => (await ask(path)).json();

//--- State -----------------------------------------------------------------------------------------------------------

const POINTS = 120; // Seconds that a sparkline shows.
const SILENCE_MS = 5000; // Rates come each second; this long without is a dead connection.
const HIDDEN_MS = 60000; // A page nobody looks at gives its place to others after this.
const state = { line: null, status: null, registry: null, ranges: null, top: null, shadow: null, verdict: null, series: new Map(), hasToken: false, attempt: 0, stop: null };

function series(plane, action) {
  const key = `${plane} ${action}`;
  if (!state.series.has(key)) state.series.set(key, []);
  return state.series.get(key);
}
function take(line) {
  const before = state.line;
  state.line = line;
  if (line.seconds > 0) {
    const sums = new Map();
    for (const one of line.verdicts) sums.set(`${one.plane} ${one.action}`, (sums.get(`${one.plane} ${one.action}`) ?? 0) + one.rate);
    for (const plane of ["dns", "http"]) for (const action of ["allow", "block"]) {
      const points = series(plane, action);
      points.push(sums.get(`${plane} ${action}`) ?? 0);
      if (points.length > POINTS) points.shift();
    }
  }
  drawRates();
  const differs = (key) => !before || JSON.stringify(before[key]) !== JSON.stringify(line[key]);
  if (["ready", "stance", "causes", "registry_generation", "ranges_generation"].some(differs)) refresh(true);
}

let refreshing = null;
async function refresh(all) {
  if (refreshing) { if (all) refreshing = refreshing.then(() => refreshNow(true)); return refreshing; }
  refreshing = refreshNow(all).finally(() => { refreshing = null; });
  return refreshing;
}
async function refreshNow(all) {
  try {
    [state.status, state.top] = await Promise.all([read("/v1/status"), read("/v1/top?n=10")]);
    state.shadow = state.status.shadow ? await read("/v1/shadow?n=10") : null;
    if (all || !state.registry) [state.registry, state.ranges] = await Promise.all([read("/v1/registry?issues=30"), read("/v1/ranges?issues=30")]);
    drawAll();
  } catch (error) { refusal(error); }
}
// What an error means for the page: a token that is asked for locks it, all else shows where it happened.
function refusal(error) {
  if (!(error instanceof Refused)) return false;
  if (error.status === 401 || error.status === 429) {
    const slow = error.status === 429;
    lock(slow ? t("token-slow", error.after || 1) : token ? t("token-wrong") : "");
    return true;
  }
  return false;
}

//--- Live ------------------------------------------------------------------------------------------------------------

function liveState(name) {
  $("live").dataset.state = name;
  $("live-text").textContent = t({ on: "live", wait: "wait", gone: "lost" }[name]);
}
async function follow() {
  const stop = new AbortController();
  state.stop?.abort();
  state.stop = stop;
  liveState("wait");
  let silence;
  const watch = () => { clearTimeout(silence); silence = setTimeout(() => stop.abort(), SILENCE_MS); };
  try {
    watch();
    const response = await ask("/v1/events?what=rates", { signal: stop.signal });
    $("lock").hidden = true;
    document.body.classList.remove("locked");
    $("desk").hidden = false;
    if ($("name").value && !state.verdict) judge();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("ended");
      watch();
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((one) => one.startsWith("data:")).map((one) => one.slice(5)).join("\n");
        if (data) { state.attempt = 0; returned(); take(JSON.parse(data)); }
      }
    }
  } catch (error) {
    if (state.stop !== stop) return;
    state.stop = null;
    if (!refusal(error)) gone(error);
  } finally { clearTimeout(silence); }
}
function returned() { liveState("on"); $("gone").hidden = true; document.body.classList.remove("stale"); }
let retrying = null;
function gone(error) {
  liveState("gone");
  document.body.classList.add("stale");
  state.attempt += 1;
  let left = Math.min(15, 2 ** Math.min(4, state.attempt - 1));
  const why = error instanceof Refused && error.status === 503 ? "full" : state.line ? "gone" : "gone-first";
  const words = h("span");
  const button = h("button", t("retry"));
  button.type = "button";
  const again = () => { clearInterval(retrying); retrying = null; follow(); };
  button.addEventListener("click", again);
  clearInterval(retrying);
  const tell = () => { words.textContent = `${t(why, state.line ? clock(state.line.at) : "", left)} `; };
  tell();
  $("gone").replaceChildren(words, button);
  $("gone").hidden = false;
  retrying = setInterval(() => { left -= 1; if (left <= 0) again(); else tell(); }, 1000);
}
function lock(message) {
  token = "";
  state.stop?.abort();
  state.stop = null;
  clearInterval(retrying);
  $("gone").hidden = true;
  $("desk").hidden = true;
  $("lock").hidden = false;
  document.body.classList.add("locked");
  $("lock-error").textContent = message;
  $("token").value = "";
  $("token").setAttribute("aria-invalid", String(message !== ""));
  $("token").focus();
  $("control").hidden = true;
  liveState("wait");
}

//--- Drawing ---------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes, ...children) {
  const res = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) res.setAttribute(key, value);
  res.append(...children);
  return res;
}
const tiles = new Map();
function tile(plane, action) {
  const key = `${plane} ${action}`;
  if (!tiles.has(key)) {
    const parts = { what: h("span"), number: h("span"), peak: h("span"), total: h("span"), unit: h("small"), area: svg("path", { class: "area" }), line: svg("path", {}) };
    const box = svg("svg", { viewBox: `0 0 ${POINTS - 1} 40`, preserveAspectRatio: "none", role: "img" }, svg("line", { x1: 0, x2: POINTS - 1, y1: 40, y2: 40 }), parts.area, parts.line);
    parts.box = box;
    parts.root = h(`div.tile.${action === "block" ? "bad" : "good"}`, h("div.what", parts.what), h("div.number", parts.number, parts.unit), box, h("div.foot", parts.peak, parts.total));
    tiles.set(key, parts);
    $("tiles").append(parts.root);
  }
  return tiles.get(key);
}
function drawRates() {
  const line = state.line;
  $("clock").textContent = clock(line.at);
  for (const plane of ["dns", "http"]) for (const action of ["allow", "block"]) {
    const parts = tile(plane, action);
    const points = series(plane, action);
    const now = points.at(-1) ?? 0;
    const most = Math.max(1, ...points);
    const total = line.verdicts.filter((one) => one.plane === plane && one.action === action).reduce((sum, one) => sum + one.total, 0);
    parts.what.textContent = `${plane.toUpperCase()} ${t(action)}`;
    parts.number.textContent = rate(now);
    parts.unit.textContent = ` ${t("per-second")}`;
    parts.peak.textContent = `${t("peak")} ${rate(points.length ? Math.max(...points) : 0)}`;
    parts.total.textContent = `${t("total")} ${count(total)}`;
    const first = POINTS - points.length;
    const path = points.map((value, i) => `${first + i},${(39 - (value / most) * 37).toFixed(1)}`).join("L");
    parts.line.setAttribute("d", points.length > 1 ? `M${path}` : "");
    parts.area.setAttribute("d", points.length > 1 ? `M${first},40L${path}L${POINTS - 1},40Z` : "");
    parts.box.setAttribute("aria-label", `${plane.toUpperCase()} ${t(action)}: ${rate(now)}${t("per-second")}, ${t("peak")} ${rate(Math.max(0, ...points))}`);
  }
  const open = Object.values(line.connections).reduce((sum, n) => sum + n, 0);
  const flow = (key, value) => h("div", h("dt", t(key)), h("dd", value));
  $("flows").replaceChildren(...Object.entries(line.flows).map(([key, n]) => flow(key, `${rate(n)}${t("per-second")}`)), flow("connections", count(open)));
  drawReasons();
}
function drawReasons() {
  const sums = new Map();
  for (const { reason, action, rate: n, total } of state.line.verdicts) {
    const sum = sums.get(reason) ?? { action, rate: 0, total: 0 };
    sums.set(reason, { action, rate: sum.rate + n, total: sum.total + total });
  }
  const rows = [...sums].sort((a, b) => (a[1].action === b[1].action ? b[1].total - a[1].total : a[1].action === "block" ? -1 : 1));
  if (rows.length === 0) return show("reasons", h("p.empty", t("no-verdicts")));
  const most = Math.max(1, ...rows.map(([, sum]) => sum.total));
  const row = ([reason, sum]) => {
    const bar = h("i");
    bar.style.width = `${Math.max(1, (sum.total / most) * 100)}%`;
    const name = h("span", named(REASONS, reason));
    name.title = reason;
    return [name, h(`span.${sum.action === "block" ? "bad" : "good"}`, bar), rate(sum.rate), count(sum.total)];
  };
  show("reasons", table([[t("reason")], ["", "meter"], [t("now"), "n"], [t("since"), "n"]], rows.map(row)));
}
function drawAll() {
  drawState();
  drawData("registry", state.registry);
  drawData("ranges", state.ranges);
  drawTop();
  drawShadow();
  drawUpstreams();
}
function drawState() {
  const status = state.status;
  const draining = status.reasons.some((note) => note.cause === "draining");
  const [key, kind] = draining ? ["draining", "bad"] : !status.ready ? ["not-ready", "bad"] : status.stance === "observe" ? ["watch", "warn"]
    : status.stance === "off" ? ["off", "warn"] : status.warnings.length ? ["warnings", "warn"] : ["ready", "good"];
  $("state").className = `state ${kind}`;
  $("state").textContent = t(key, status.warnings.length);
  document.title = `${kind === "good" ? "" : kind === "bad" ? "✕ " : "! "}icpgate · ${t(key, status.warnings.length)}`;
  $("mode").textContent = status.mode === status.stance ? status.mode : `${status.mode} → ${status.stance}`;
  $("uptime").textContent = span(status.uptime_seconds);
  $("memory").textContent = `${(status.resident_memory_bytes / 1048576).toFixed(1)} MiB`;
  $("version").textContent = `icpgate ${status.version} · ${t("started")} ${moment(status.started_at)} UTC`;
  const note = (kind) => (one) => h(`li.${kind}`, h("code", one.cause, one.outcome ? ` → ${one.outcome}` : ""), h("span", one.text));
  const notes = [...status.reasons.map(note("bad")), ...status.warnings.map(note("warn"))];
  $("notes").hidden = notes.length === 0;
  show("notes", notes.length ? h("ul", notes) : null);
  const control = $("control");
  control.hidden = false;
  control.disabled = !state.hasToken;
  control.textContent = t(state.hasToken ? "reload-button" : "readonly");
  control.title = state.hasToken ? "" : t("readonly-why");
  document.querySelector("footer nav").hidden = state.hasToken;
}
const diffKind = { "+": "add", "-": "del", "~": "mod" };
function drawData(id, data) {
  const age = id === "registry" ? ` · ${t("confirmed")} ${span(state.status.registry_age_seconds)}` : "";
  $(`${id}-age`).textContent = data.loaded_at ? `${t("generation")} ${data.generation}${age}` : t("not-loaded");
  const res = [];
  if (data.by_status) {
    const bars = Object.entries(data.by_status).filter(([, n]) => n > 0);
    res.push(h("div.segments", bars.map(([status, n]) => { const bar = h(`i.${status}`); bar.style.flexGrow = String(n); return bar; })));
    res.push(h("div.legend", bars.map(([status, n]) => h("span", `${named(STATUSES, status)} `, h("b", count(n))))));
  }
  const reload = data.last_reload;
  const outcome = reload && h(`span.pill.${reload.outcome === "refused" ? "bad" : "good"}`, t(reload.outcome));
  res.push(facts([[t("rows"), `${count(data.rows)} · ${t("files")} ${data.files.length}`], [t("loaded"), `${moment(data.loaded_at)} UTC`],
    [t("last-reload"), reload ? h("span", `${moment(reload.at)} UTC `, outcome) : null], [t("digest"), data.digest ? h("code", data.digest) : null]]));
  if (data.health.length) res.push(h("h3", t("refused-why")), h("ul.issues", data.health.map((line) => h("li.bad", h("span", line)))));
  const change = data.last_change;
  if (change) {
    const sums = Object.entries(change.counts).filter(([, n]) => n > 0).map(([key, n]) => `${t(key)} ${count(n)}`);
    const first = change.generation === 1;
    res.push(h("h3", `${t("last-change")} · ${t("generation")} ${change.generation} · ${moment(change.at)} · ${t("took", change.elapsed_ms)}`));
    res.push(h("p", first ? t("first-load", count(data.rows)) : sums.join(" · ") || t("no-lines")));
    if (!first && change.lines.length) res.push(h("div.diff", change.lines.map((line) => h(`div.${diffKind[line[0]] ?? "mod"}`, line))));
  }
  if (data.issues_total) {
    const place = (issue) => `${issue.file}${issue.line ? `:${issue.line}` : ""}${issue.column ? `:${issue.column}` : ""}`;
    const issue = (one) => h(`li.${one.severity === "error" ? "bad" : one.severity === "warning" ? "warn" : "soft"}`,
      h("span", h("code", place(one)), ` ${one.key ? `${one.key} = ${JSON.stringify(one.value)}: ` : ""}${one.message} `, h("span.tag", one.rule)));
    res.push(h("h3", `${t("findings")} ${count(data.issues_total)}`), h("ul.issues", data.issues.map(issue)));
    if (data.issues_total > data.issues.length) res.push(h("p.empty", t("more", count(data.issues_total - data.issues.length), `/v1/${id}`)));
  }
  show(id, res);
}
function drawTop() {
  if (state.top.top.length === 0) return show("top", h("p.empty", t("no-top")));
  const row = (one) => {
    const button = h("button", one.domain);
    button.type = "button";
    button.addEventListener("click", () => { $("name").value = one.domain; $("address").value = ""; judge(); });
    return [button, named(REASONS, one.reason), clock(one.last), count(one.blocks)];
  };
  show("top", table([[t("domain")], [t("reason"), "short"], [t("latest"), "n"], [t("blocks"), "n"]], state.top.top.map(row)));
}
// What another registry, other ranges or another policy would say otherwise; where nothing judges beside, nothing is shown.
function drawShadow() {
  const { shadow } = state;
  $("shadow-card").hidden = !shadow;
  if (!shadow) return;
  $("shadow-note").textContent = t("shadow-note", count(shadow.state.judged), count(shadow.state.differing));
  if (shadow.names.length === 0) return show("shadow", h("p.empty", t("no-shadow")));
  const said = (one) => [h(`span.pill.${one.action === "block" ? "bad" : "good"}`, t(one.action)), " ", named(REASONS, one.reason)];
  const row = (one) => [one.name, said(one.live), said(one.shadow), clock(one.last_seen)];
  const rows = [table([[t("domain")], [t("shadow-live")], [t("shadow-would")], [t("latest"), "n"]], shadow.names.map(row))];
  if (shadow.known > shadow.names.length) rows.push(h("p.empty", t("more", count(shadow.known - shadow.names.length), "/v1/shadow")));
  show("shadow", rows);
}
function drawUpstreams() {
  const { upstreams, planes, zones } = state.status;
  const down = upstreams.filter((one) => !one.up).length;
  $("upstream-note").textContent = upstreams.length ? `${upstreams.length - down} / ${upstreams.length} ${t("up")}` : "";
  const up = (one) => h(`span.pill.${one.up ? "good" : "bad"}`, t(one.up ? "up" : "down"));
  show("upstreams", upstreams.length ? table([[t("server")], [t("state"), "n"]], upstreams.map((one) => [h("code", one.server), up(one)])) : h("p.empty", t("no-upstreams")));
  const lines = planes.map((plane) => [`${plane.plane} · ${plane.transports}`, h("span", plane.addresses.map((address) => h("div", h("code", address))), plane.addresses.length ? null : "–")]);
  show("planes", facts([...lines, [t("zones"), count(zones)]]));
}

//--- Verdict ---------------------------------------------------------------------------------------------------------

let asked = 0;
async function judge() {
  const name = $("name").value.trim();
  const addresses = $("address").value.split(/[\s,，]+/).filter(Boolean);
  const error = (text, field) => {
    $("ask-error").textContent = text;
    for (const id of ["name", "address"]) $(id).setAttribute("aria-invalid", String(id === field));
    if (field) { $("verdict").hidden = true; $(field).focus(); }
  };
  error("");
  if (!name) return error(t("no-name"), "name");
  const query = new URLSearchParams([["name", name], ...addresses.map((one) => ["address", one]), ["plane", $("plane").value]]);
  const hash = `#${query}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
  const mine = ++asked;
  try {
    const found = await read(`/v1/verdict?${query}`);
    if (mine !== asked) return;
    state.verdict = found;
    drawVerdict(found);
    $("verdict").scrollIntoView({ block: "nearest" });
  } catch (problem) {
    if (mine !== asked || refusal(problem)) return;
    error(t("failed", problem.message), problem instanceof Refused && problem.status === 400 ? (/address/.test(problem.message) ? "address" : "name") : "name");
  }
}
function drawVerdict(found) {
  const zh = language === "zh";
  const kind = found.action === "block" ? "bad" : "good";
  const copy = found.id ? h("button", `${t("copy")} ${found.id}`) : null;
  if (copy) {
    copy.type = "button";
    copy.addEventListener("click", () => navigator.clipboard?.writeText(found.id).then(() => { copy.textContent = t("copied"); }, () => {}));
  }
  const shown = found.spelling && found.spelling !== found.name ? `${found.spelling} (${found.name})` : found.name;
  const why = h("p.why", h("b", named(REASONS, found.reason)), " ", h("code", found.reason), ` · ${t("rule")} ${found.rule} · ${zh ? found.sentence.zh : found.sentence.en}`,
    found.enforced === false ? h("b.warn", ` · ${t("not-enforced")}`) : null);
  const ruling = h("div.ruling", h(`div.stamp.${kind}`, t(`stamp${found.action}`)), h("div", h("p.who", shown), why), copy);
  const step = (one) => h(`li${one.decides ? `.decides.${kind}` : ""}`, h("div.line", h("p.q", zh ? one.question_zh : one.question), h("p.a", zh ? one.found_zh : one.found)),
    one.rule || one.source ? h("p.tags", one.rule ? h("span.tag", one.rule) : null, one.decides ? t("decides") : null, one.source ? h("span", one.source) : null) : null);
  const left = h("div", h("h3", t("steps")), found.in_line ? h("p.soft", t("in-line")) : null, h("ol.chain", found.steps.map(step)));
  const row = found.filing;
  const right = h("div");
  if (found.advice) {
    const advice = zh ? found.advice.zh : found.advice.en;
    right.append(h("h3", t("advice")), h("div.advice", h("b", advice.title), h("p", advice.lead), h("ol", advice.steps.map((one) => h("li", one)))));
  }
  right.append(h("h3", t("filing")));
  right.append(row ? facts([[t("number"), row.site_no ?? "–"], [t("status"), named(STATUSES, row.status)], [t("access"), row.access.length ? row.access.join(", ") : t("nobody")],
    ...["filed_on", "updated_on", "expires_on", "provisional_access_until"].map((key) => [t(key), found.dates?.[key] ?? null]), [t("row"), h("code", `${row.file}:${row.line}`)]]) : h("p", t("no-filing")));
  right.append(h("h3", t("facts")), facts([[t("registered"), found.domain ?? t("none")], [t("suffix"), found.suffix],
    [t("prefix"), found.range ? h("code", found.range.prefix) : null], [t("region"), found.range?.region], [t("provider"), found.range ? found.range.provider ?? t("unknown") : null], [t("product"), found.range?.product]]));
  if (found.places.length > 1) right.append(h("h3", t("addresses")), h("ul.changes", found.places.map((place) => h("li", h("code", place.address), h("span", `${t(place.alone.action)} · ${named(REASONS, place.alone.reason)}`)))));
  right.append(h("h3", t("data")), facts([[t("registry"), t("gen-since", found.registry_generation, moment(found.registry_loaded_at))], [t("ranges"), t("gen-since", found.ranges_generation, moment(found.ranges_loaded_at))],
    [t("mode"), found.mode === found.stance ? found.mode : `${found.mode} → ${found.stance}`]]));
  const would = found.what_would_change_it;
  if (would.length) left.append(h("h3", t("would")), h("ul.changes", would.map((one) => h("li", h("span", zh ? one.with_zh : one.with),
    h(`span.${one.verdict.action === "block" ? "bad" : "good"}`, `${t(one.verdict.action)} · ${named(REASONS, one.verdict.reason)}`)))));
  $("said").textContent = `${shown}: ${t(`stamp${found.action}`)}, ${named(REASONS, found.reason)}`;
  $("verdict").replaceChildren(ruling, h("div.body", left, right));
  $("verdict").hidden = false;
}

//--- Control ---------------------------------------------------------------------------------------------------------

async function reload(dry) {
  const buttons = ["reload-try", "reload-do"].map($);
  buttons.forEach((button) => { button.disabled = true; });
  $("reload-result").textContent = t("reload-busy");
  try {
    const response = await ask(`/v1/reload${dry ? "?dry-run=1" : ""}`, { method: "POST", accept: [409] });
    const report = await response.json();
    $("reload-result").replaceChildren(...report.done.map((line) => h("p", line)), ...report.refused.map((line) => h("p.bad", line)));
    refresh(true);
  } catch (error) {
    if (refusal(error)) $("reload").close();
    $("reload-result").textContent = t("failed", error.message);
  } finally { buttons.forEach((button) => { button.disabled = false; }); }
}

//--- Start -----------------------------------------------------------------------------------------------------------

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.querySelectorAll("[data-t]").forEach((element) => { element.textContent = t(element.dataset.t); });
  $("language").textContent = language === "zh" ? "English" : "中文";
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  liveState($("live").dataset.state);
  if (state.line) drawRates();
  if (state.status) drawAll();
  if (state.verdict && !$("verdict").hidden) drawVerdict(state.verdict);
}
function fromHash() {
  const query = new URLSearchParams(location.hash.slice(1));
  if (!query.get("name")) return false;
  $("name").value = query.get("name");
  $("address").value = query.getAll("address").join(", ");
  $("plane").value = query.get("plane") === "http" ? "http" : "dns";
  return true;
}
$("language").addEventListener("click", () => { language = language === "zh" ? "en" : "zh"; translate(); });
$("ask").addEventListener("submit", (event) => { event.preventDefault(); judge(); });
$("lock").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  state.hasToken = token !== "";
  await follow();
});
$("control").addEventListener("click", () => { $("reload-result").replaceChildren(); $("reload").showModal(); });
$("reload-close").addEventListener("click", () => $("reload").close());
$("reload-try").addEventListener("click", () => reload(true));
$("reload-do").addEventListener("click", () => reload(false));
window.addEventListener("hashchange", () => { if (fromHash()) judge(); });
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && !$("desk").hidden) { event.preventDefault(); $("name").focus(); $("name").select(); }
});
let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => { const stop = state.stop; state.stop = null; stop?.abort(); }, HIDDEN_MS);
  else if (!state.stop && !retrying && $("lock").hidden) follow();
});
setInterval(() => { if (state.stop && !$("desk").hidden && !document.hidden) refresh(false); }, 5000);
translate();
fromHash();
follow();
