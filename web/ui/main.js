// The dashboard: puts what the feed brings into the page.

import { Charts } from "/ui/charts.js";
import { $, make, setAttribute, setText } from "/ui/dom.js";
import { Feed, get } from "/ui/feed.js";
import * as format from "/ui/format.js";
import { Clients, Events, showReasons, showWorkers } from "/ui/lists.js";
import { Model } from "/ui/model.js";

const LOOK_MS = 5000; // at what is not pushed
const RECORD_MS = 60000; // the server's own record of the last hour
const RECORD_SOON_MS = 12000; // the step that was under way when the page was opened
const LOOK_SOON_MS = 600; // after an event that says that it has changed
const CERTIFICATE_WARN_DAYS = 14;
const CERTIFICATE_BAD_DAYS = 3;
const SHORT_SECONDS = 300; // a young server's record fills no longer span
const STATES = { running: "", starting: "warn", draining: "warn", drained: "warn", degraded: "bad" };

const model = new Model();
const charts = new Charts(model);
const clients = new Clients(() => look());
const events = new Events();
const shown = new Map();
let status = null;
let record = null;
let timer = null;
let looking = false;
let again = false;

// What is shown already is left alone, with what somebody has selected in it.
function isNews(name, value) {
	const text = JSON.stringify(value);
	const news = shown.get(name) !== text;
	shown.set(name, text);
	return news;
}

function tile(name, [value, unit], sub, raw, level) {
	const box = $(`[data-tile="${name}"]`);
	if (!isNews(name, [value, unit, sub, raw, level])) {
		return;
	}
	const shown = make("data", { value: raw ?? "" }, value);
	$(".value", box).replaceChildren(shown, unit ? make("small", {}, unit) : "");
	setText($(".sub", box), sub);
	setAttribute(box, "data-level", level || null);
}

// What comes every second.
function showNow() {
	if (document.hidden) {
		return;
	}
	const now = model.now;
	const handshakes = model.reasons("handshake_failures_per_second");
	const dials = model.reasons("connect_failures_per_second");
	const sum = (reasons) => reasons.reduce((total, [, count]) => total + count, 0);

	tile("rtt", format.milliseconds(now.rtt_ms).split(" "), `loss ${format.percent(now.loss)}`, now.rtt_ms);
	tile("failures", [format.count(sum(handshakes) + sum(dials))],
		`${format.counted(sum(handshakes), "handshake")}, ${format.counted(sum(dials), "dial")}`, sum(handshakes) + sum(dials));
	if (isNews("reasons", [handshakes, dials])) {
		showReasons([["Handshakes", handshakes], ["Dials to targets", dials]]);
	}
	showWorkers(now);
	showTraffic();
	charts.draw();
}

function showTraffic() {
	const now = model.now;
	if (now === null || status === null) {
		return;
	}
	const { traffic, connections, tunnels } = status;
	tile("down", format.bitsParts(now.sent_bytes_per_second), `${format.bytes(traffic.bytes_sent)} in all`, traffic.bytes_sent);
	tile("up", format.bitsParts(now.received_bytes_per_second), `${format.bytes(traffic.bytes_received)} in all`, traffic.bytes_received);
	tile("connections", [format.count(now.connections)],
		`${format.counted(now.tunnels, "tunnel")}, ${format.count(connections.total)} since start`, now.connections);
	$('[data-tile="connections"]').dataset.total = connections.total;
	$('[data-tile="connections"]').dataset.tunnels = tunnels.opened;
}

function showCertificates(certificates) {
	const next = certificates.filter((c) => c.name !== "authority").sort((a, b) => a.not_after - b.not_after)[0] ??
		certificates[0];
	if (next === undefined) {
		tile("certificate", ["none"], "", "");
		return;
	}
	const days = next.days_left;
	tile("certificate", [format.count(days), Math.abs(days) === 1 ? "day left" : "days left"],
		`${format.clean(next.name, 40)}, until ${format.date(next.not_after)}`, days,
		days <= CERTIFICATE_BAD_DAYS ? "bad" : days <= CERTIFICATE_WARN_DAYS ? "warn" : null);
}

function showStatus() {
	const state = $("#state");
	state.hidden = false;
	setText(state, format.words(status.state));
	setAttribute(state, "data-level", STATES[status.state] || null);
	setText($("#facts"), [
		`version ${format.clean(status.version, 40)}`,
		`up ${format.duration(status.uptime_seconds)}`,
		format.counted(status.workers, "worker"),
		...status.listeners.map((l) => `${format.clean(l.protocol, 10)} ${format.clean(l.address, 60)}`).slice(0, 6),
	].join("  ·  "));
	const notices = [...status.warnings];
	if (status.problem) {
		notices.unshift(status.next ? `${status.problem}: ${status.next}` : status.problem);
	}
	const list = $("#notices");
	list.hidden = notices.length === 0;
	if (isNews("notices", notices)) {
		list.replaceChildren(...notices.map((text) => make("li", { class: "notice" }, format.clean(text, 500))));
	}
	showCertificates(status.certificates);
	showTraffic();
}

// Asks for what is not pushed, one question at a time.
async function look() {
	clearTimeout(timer);
	if (looking) {
		again = true;
		return;
	}
	looking = true;
	try {
		const answers = await Promise.all([get("/status"), get(clients.path)]);
		status = answers[0];
		showStatus();
		clients.show(answers[1], model.now?.time ?? Date.now() / 1000);
	} catch (error) {
		console.debug(error.message); // the feed tells of a server that is gone
	}
	looking = false;
	lookAfter(again ? 0 : LOOK_MS);
	again = false;
}

function lookAfter(ms) {
	clearTimeout(timer);
	timer = setTimeout(() => (document.hidden ? lookAfter(LOOK_MS) : look()), ms);
}

async function loadHistory(nextMs) {
	clearTimeout(record);
	record = setTimeout(() => loadHistory(RECORD_MS), nextMs);
	if (document.hidden && model.now !== null) {
		return;
	}
	try {
		const first = model.startedAt === null;
		model.load(await get("/stats"));
		if (first && model.seconds() < SHORT_SECONDS) {
			charts.show(SHORT_SECONDS);
		}
		showNow();
	} catch (error) {
		console.debug(error.message); // the next hello asks again
	}
}

function showState(state) {
	const live = $("#live");
	if (live.dataset.state === state) {
		return;
	}
	live.dataset.state = state;
	setText($("#live-text"), state === "live" ? "live" : "connection lost, trying again");
	document.body.classList.toggle("stale", state === "lost");
	document.title = state === "live" ? "MyTunnel" : "Connection lost – MyTunnel";
}

document.addEventListener("visibilitychange", () => {
	if (!document.hidden && model.now !== null) {
		showNow();
		look();
	}
});

new Feed({
	state: showState,
	hello(data) {
		events.begin(data.started_at);
		loadHistory(RECORD_SOON_MS);
		look();
	},
	stats(sample) {
		if (model.startedAt !== null && model.add(sample)) {
			showNow();
		}
	},
	event(event) {
		if (events.add(event)) {
			lookAfter(LOOK_SOON_MS);
		}
	},
	missed(data) {
		events.missed(data.missed);
	},
}).start();
